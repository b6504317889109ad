"""AWS calls as IAM sees them: recorded from boto3 while the code runs, and put to a policy.

Which right a call needs is AWS's to say: https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from silversmith.aws.account import Account
from silversmith.local.iam import Policy

Json = dict[str, Any]

ACCOUNT = "123456789012"

#: Whose rights are not those of their own name. A conditional write needs the right to read, too:
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
_RIGHTS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "SendMessageBatch": "SendMessage",
    "DeleteMessageBatch": "DeleteMessage",
    "PublishBatch": "Publish",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
    "Invoke": "InvokeFunction",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
}

#: Calls for which nobody needs a right. https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
_FREE = {"GetCallerIdentity"}


@dataclass(frozen=True, order=True)
class Right:
    """An action on a resource."""

    action: str
    resource: str


@dataclass
class Recorder:
    """The calls of the clients that it watches, as the rights that they needed.

    To read a version by its id takes a right of its own, s3:GetObjectVersion.
    """

    account: str
    region: str
    rights: set[Right] = field(default_factory=set)

    def watched(self, account: Account) -> Account:
        """The account with clients that are watched."""

        def client(service: str) -> Any:
            aws_client = account.client(service)
            aws_client.meta.events.register("before-parameter-build.*.*", self._before)
            aws_client.meta.events.register("after-call.*.*", self._after)
            return aws_client

        return Account(account.id, account.region, client, account.endpoint_url)

    def _before(self, params: Mapping[str, Any], model: Any, context: Json, **_: Any) -> None:
        context["recorded"] = dict(params)
        self.rights.update(self._needed(model, params))

    def _after(self, http_response: Any, model: Any, context: Json, **_: Any) -> None:
        """A caller that may not list a bucket gets 403 for a missing object. https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html"""
        if http_response.status_code == 404 and model.name in {"HeadObject", "GetObject"}:
            self.rights.add(Right("s3:ListBucket", f"arn:aws:s3:::{context['recorded']['Bucket']}"))

    def _needed(self, model: Any, params: Mapping[str, Any]) -> Iterator[Right]:
        if model.name in _FREE:
            return
        service = model.service_model.service_name
        resource = self._resource(service, params)
        action = _RIGHTS.get(model.name, model.name)
        yield Right(f"{service}:{action}{'Version' if params.get('VersionId') else ''}", resource)
        if service == "s3" and (params.get("IfMatch") or params.get("IfNoneMatch")):
            yield Right("s3:GetObject", resource)

    def _resource(self, service: str, params: Mapping[str, Any]) -> str:  # noqa: PLR0911 -- one for each service
        here = f"{self.region}:{self.account}"
        if service == "s3":
            key = params.get("Key")
            return f"arn:aws:s3:::{params['Bucket']}" + (f"/{key}" if key else "")
        if service == "sqs":
            return f"arn:aws:sqs:{here}:{params['QueueUrl'].rpartition('/')[2]}"
        if service == "sns":
            return str(params.get("TopicArn") or params["SubscriptionArn"])
        if service == "events":
            return f"arn:aws:events:{here}:rule/{params.get('Name') or params['Rule']}"
        if service == "lambda":
            mapping = f"event-source-mapping:{params.get('UUID')}"
            return f"arn:aws:lambda:{here}:" + (mapping if "UUID" in params else f"function:{params['FunctionName']}")
        if service == "cloudwatch":
            return "*"
        if service == "logs":
            return (
                f"arn:aws:logs:{here}:log-group:{params['logGroupName']}:log-stream:{params.get('logStreamName', '')}"
            )
        if service == "cloudformation":
            return f"arn:aws:cloudformation:{here}:stack/{params['StackName']}/4ae5a768"
        raise AssertionError(f"a call of {service} is not foreseen here: {dict(params)}")


def denied(document: Json, rights: Iterable[Right], *, account: str = ACCOUNT, function: str = "other") -> list[Right]:
    """Rights that a policy document lacks, if everything belongs to ``account``, and mappings to ``function``."""
    policy = Policy.parse("policy", document)
    context = {
        "aws:ResourceAccount": account,
        "lambda:FunctionArn": f"arn:aws:lambda:eu-central-1:{account}:function:{function}",
    }
    return sorted(right for right in rights if not policy.allows(right.action, right.resource, context=context))


def unused(document: Json, rights: Iterable[Right], *, function: str = "other") -> list[str]:
    """Actions and resources that a policy document does not need: without them it allows all calls as before."""
    expected = [*rights]
    return [what for what, smaller in _smaller(document) if not denied(smaller, expected, function=function)]


def _smaller(document: Json) -> Iterator[tuple[str, Json]]:
    """The document without one action or one resource of one statement; without the statement, if it had no other."""
    for position, statement in enumerate(document["Statement"]):
        for element in ("Action", "Resource"):
            values = statement[element] if isinstance(statement[element], list) else [statement[element]]
            for value in values:
                smaller = copy.deepcopy(document)
                left = [each for each in values if each != value]
                if left:
                    smaller["Statement"][position][element] = left
                else:
                    del smaller["Statement"][position]
                yield f"{statement['Sid']}: {value}", smaller
