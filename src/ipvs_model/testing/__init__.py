"""Property-based testing of load balancers: strategies, a state machine, laws, properties of schedulers, scripts, a pytest plugin.

The rooms are imported by name (`ipvs_model.testing.machine`, `.strategies`, `.properties`); those that draw examples need the extra `testing`.
"""
