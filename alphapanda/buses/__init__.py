"""Topics of messages between processes: base says what a bus promises, redis and memory keep it."""
