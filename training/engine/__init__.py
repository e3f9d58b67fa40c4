"""The only room that speaks Qlib: host, training process, and the leader's handle on them. No Django here."""
