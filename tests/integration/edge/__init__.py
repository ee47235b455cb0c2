"""The edge towards clients: unix sockets, load balancers, certificates, with the real proxy."""
