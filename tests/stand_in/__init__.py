"""S3 as the tests need it: over a real socket, with every fault that a test asks for.

    with S3Server(plan=lambda request: Tear(10) if request.operation == "GetObject" else None) as server:
        server.bucket("bronze").put("a.csv", b"x\\n1\\n")
        client = server.client()

``server.buckets`` has every version of every object, ``server.log`` every request with the fault that it met.
"""

from tests.stand_in.buckets import Bucket, Version
from tests.stand_in.faults import Delay, Drop, Fault, Flip, Hang, Lag, Plan, Refuse, Request, Tear
from tests.stand_in.server import S3Server

__all__ = [
    "Bucket",
    "Delay",
    "Drop",
    "Fault",
    "Flip",
    "Hang",
    "Lag",
    "Plan",
    "Refuse",
    "Request",
    "S3Server",
    "Tear",
    "Version",
]
