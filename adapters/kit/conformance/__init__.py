"""The conformance kit: every clause of the contract, tried on an adapter; its report can be certified."""
