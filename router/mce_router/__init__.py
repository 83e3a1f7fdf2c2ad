"""The router: the process in the pod that takes the traffic and hands it to the containers."""
