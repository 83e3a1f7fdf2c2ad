"""What every example container shares: the HTTP contract, its payloads and the deskewing."""
