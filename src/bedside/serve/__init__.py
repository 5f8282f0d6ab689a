"""A server of the doors that a configuration names: started, checked, drained."""
