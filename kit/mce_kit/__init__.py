"""Small effectful plumbing without domain words: tasks, clock, logs, Kubernetes access."""
