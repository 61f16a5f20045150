"""What a guard costs: CPU time above the bare call, and memory, beside other libraries on the same operations."""
