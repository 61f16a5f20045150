"""The laboratory of shoal: a payment company that really runs, and is really broken.

`company` is what runs in the pods, `platform` what a cluster would provide, `faults` breaks the network between
them, `load` is the customers, `scenario` the script, `run` performs it, `report` says what it did to customers.
"""
