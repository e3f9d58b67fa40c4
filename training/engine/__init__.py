"""The only room that speaks Qlib: host, training, and the leader's handle on them. No Django."""
