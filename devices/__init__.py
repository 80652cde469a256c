"""How programs run: the protocol, the registry of devices, and a folder for each."""
