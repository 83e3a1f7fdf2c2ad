"""The same endpoint without a cluster: processes or Docker/Podman containers behind the same router.

Who does what: `request` turns the user's files (`documents`, `images`) into a `wanted.Wanted`; `client` hands that to
one `supervisor` process per endpoint, through files in the endpoint's folder (`state`) and signals. The supervisor
observes, decides (`changes`, `units`, `ports`, `diagnosis`: pure) and acts (`router`, `processes` or `engines`).
"""
