"""How people see a run: figures, frames, pictures, a page, a terminal."""
