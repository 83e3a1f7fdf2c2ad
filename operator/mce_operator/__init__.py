"""The operator: turns a MultiContainerEndpoint into a pod template and says in its status how that goes."""
