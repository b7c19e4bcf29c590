"""Looking back: why an order is as it is, what a run did, two runs side by side; from files, with nothing running."""
