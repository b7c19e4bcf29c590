"""State on Redis that several processes share: values, documents, collections, the risk books, leases."""
