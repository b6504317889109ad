"""The logs that AWS and web servers write: for each a reader, and its published columns as a contract.

>>> from silversmith.logs import alb
>>> @pipeline.transform("AWSLogs/*/elasticloadbalancing/*.log.gz", reader=alb.reader, contract=alb.contract)
... def requests(rows): return rows

The columns have the names of the published fields; of fields in objects, the names on the way to them, ``user_arn`` for
``{"user": {"arn": …}}``. All that is new or not published is kept: at the end of a line in the column ``extra`` as it
stands there, of a JSON record as JSON. So AWS may add fields, and silver keeps its columns. docs/aws-logs.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Literal

import polars as pl

from silversmith.contract import Contract
from silversmith.formats import Csv, Fields, Json, Parquet, Reader, Regex

#: The column of what is not published.
EXTRA = "extra"

_TIME = pl.Datetime("us", "UTC")
_TYPES: Mapping[str, pl.DataType] = {
    "integers": pl.Int64(),
    "floats": pl.Float64(),
    "booleans": pl.Boolean(),
    "dates": pl.Date(),
    "clocks": pl.Time(),
    "times": _TIME,
}

#: How Apache, nginx and S3 write times.
_CLF = "%d/%b/%Y:%H:%M:%S %z"

#: Fields without quotes.
_NUMBER, _WORD = "[0-9]+|-", '[^ "]*'


@dataclass(frozen=True)
class Log:
    """One kind of log.

    Attributes:
        reader: reads the files.
        columns: the published fields, with their types. Where the log's owner chooses fields, not all are in a file.
        page: the address of the page that publishes them.
        contract: demands these types, and fills or leaves out what a file does not have.
    """

    reader: Reader
    columns: Mapping[str, pl.DataType]
    page: str
    required: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    missing: Literal["fill", "keep"] = "fill"

    @cached_property
    def contract(self) -> Contract:
        return Contract(self.columns, required=self.required, rename=self.rename, on_missing_column=self.missing)


def _typed(names: Iterable[str], types: Mapping[str, str]) -> dict[str, pl.DataType]:
    """Columns of text, but for those that ``types`` names: by a key of ``_TYPES``, names between blanks."""
    kinds = {name: _TYPES[kind] for kind, words in types.items() for name in words.split()}
    columns = {name: kinds.pop(name, pl.String()) for name in names}
    assert not kinds, kinds
    return columns


def _lines(
    page: str,
    fields: str,
    *,
    least: int,
    addresses: str = "",
    loose: str = "",
    bare: Mapping[str, str] | None = None,
    written: Mapping[str, str] | None = None,
    **types: str,
) -> Log:
    """A log of fields with blanks between. ``addresses`` are fields that hold an address and a port.

    ``loose`` are texts of clients, in quotes, whose own quotes nothing escapes: they end where the rest fits.
    ``bare`` are fields that never have a quote, with what they look like, by which such an end is known.
    """
    places, names = [], []
    bare = bare or {}
    for name in fields.split():
        if name in addresses.split():
            places.append(rf"\[?(?<{name}_ip>[^ \[\]]*?)\]?(?::(?<{name}_port>[0-9]+))?")
            names += [f"{name}_ip", f"{name}_port"]
        elif name in loose.split():
            places.append(rf'(?:"(?<{name}>.*?)"|-)')
            names.append(name)
        elif name in bare:
            places.append(rf"(?<{name}>{bare[name]})")
            names.append(name)
        else:
            places.append(name)
            names.append(name)
    types["integers"] = " ".join([types.get("integers", ""), *(f"{name}_port" for name in addresses.split())])
    reader = Fields(places, least=least, extra=EXTRA, escape=None, times=written or {})
    return Log(reader, _typed([*names, EXTRA], types), page, required=(types["times"].split()[0],))


def _records(
    page: str, fields: str, *, required: str = "", options: Mapping[str, Any] | None = None, **types: str
) -> Log:
    """A log of JSON records. A field is its path, with the name of the column before it where that is another one."""
    columns = {}
    for word in fields.split():
        name, _, path = word.rpartition("=")
        columns[name or path.replace("/", "_")] = f"/{path}"
    reader = Json(columns=columns, extra=EXTRA, **(options or {}))
    return Log(reader, _typed([*columns, EXTRA], types), page, required=tuple(required.split()))


def _named(column: Callable[[str], str], fields: str) -> dict[str, str]:
    """By name of a field, the name of its column."""
    return {name: column(name) for name in fields.split()}


def _chosen(page: str, reader: Reader, names: Mapping[str, str], **types: str) -> Log:
    """A log whose owner chooses the fields; ``names`` are those in the files, and the names of their columns."""
    rename = {name: column for name, column in names.items() if name != column}
    return Log(reader, _typed(names.values(), types), page, rename=rename, missing="keep")


# Load balancers.

_ELB = "https://docs.aws.amazon.com/elasticloadbalancing/latest/"

alb = _lines(
    _ELB + "application/load-balancer-access-logs.html",
    "type time elb client target request_processing_time target_processing_time response_processing_time "
    "elb_status_code target_status_code received_bytes sent_bytes request user_agent ssl_cipher ssl_protocol "
    "target_group_arn trace_id domain_name chosen_cert_arn matched_rule_priority request_creation_time "
    "actions_executed redirect_url error_reason target_port_list target_status_code_list classification "
    "classification_reason conn_trace_id transformed_host transformed_uri request_transform_status",
    least=18,
    addresses="client target",
    times="time request_creation_time",
    floats="request_processing_time target_processing_time response_processing_time",
    integers="elb_status_code target_status_code received_bytes sent_bytes matched_rule_priority",
)

nlb = _lines(
    _ELB + "network/load-balancer-access-logs.html",
    "type version time elb listener client destination connection_time tls_handshake_time received_bytes sent_bytes "
    "incoming_tls_alert chosen_cert_arn chosen_cert_serial tls_cipher tls_protocol_version tls_named_group domain_name "
    "alpn_fe_protocol alpn_be_protocol alpn_client_preference_list tls_connection_creation_time",
    least=18,
    addresses="client destination",
    times="time tls_connection_creation_time",
    integers="connection_time tls_handshake_time received_bytes sent_bytes incoming_tls_alert",
)

clb = _lines(
    _ELB + "classic/access-log-collection.html",
    "time elb client backend request_processing_time backend_processing_time response_processing_time elb_status_code "
    "backend_status_code received_bytes sent_bytes request user_agent ssl_cipher ssl_protocol",
    least=12,
    addresses="client backend",
    loose="request user_agent",
    bare={"received_bytes": _NUMBER, "sent_bytes": _NUMBER, "ssl_cipher": _WORD, "ssl_protocol": '(?:SSL|TLS)[^ "]*|-'},
    times="time",
    floats="request_processing_time backend_processing_time response_processing_time",
    integers="elb_status_code backend_status_code received_bytes sent_bytes",
)

# Storage and delivery.

_S3_NUMBERS = "http_status bytes_sent object_size total_time turn_around_time"
_S3_TAIL = (
    "version_id host_id signature_version cipher_suite authentication_type host_header tls_version access_point_arn "
    "acl_required source_region"
)

s3_access = _lines(
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html",
    "bucket_owner bucket time remote_ip requester request_id operation key request_uri http_status error_code "
    "bytes_sent object_size total_time turn_around_time referer user_agent " + _S3_TAIL,
    least=18,
    loose="request_uri referer user_agent",
    bare=dict.fromkeys(_S3_NUMBERS.split(), _NUMBER)
    | dict.fromkeys(_S3_TAIL.split(), _WORD)
    | {"signature_version": 'Sig[^ "]*|-', "tls_version": '(?i:TLS)[^ "]*|-'},
    written={"time": _CLF},
    times="time",
    integers=_S3_NUMBERS,
)

_CLOUDFRONT_PAGE = "https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/standard-logs-reference.html"
_CLOUDFRONT = _named(
    lambda name: re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"),
    "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) "
    "cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken "
    "x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status "
    "fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len "
    "sc-range-start sc-range-end timestamp timestamp(ms) origin-fbl origin-lbl asn c-country",
)
_CLOUDFRONT_TYPES = {
    "dates": "date",
    "clocks": "time",
    "floats": "time_taken time_to_first_byte origin_fbl origin_lbl",
    "integers": "sc_bytes sc_status cs_bytes c_port sc_content_len sc_range_start sc_range_end fle_encrypted_fields "
    "timestamp timestamp_ms asn",
}

cloudfront = _chosen(
    _CLOUDFRONT_PAGE,
    Fields(header="#Fields:", comment="#", separator="\t", quoted=False, infer=False),
    _CLOUDFRONT,
    **_CLOUDFRONT_TYPES,
)
cloudfront_json = Log(
    Json(
        columns={column: "/" + name for name, column in _CLOUDFRONT.items()},
        extra=EXTRA,
        null_values=["-"],
    ),
    {**cloudfront.columns, EXTRA: pl.String()},
    _CLOUDFRONT_PAGE,
)
cloudfront_parquet = _chosen(_CLOUDFRONT_PAGE, Parquet(null_values=["-"]), _CLOUDFRONT, **_CLOUDFRONT_TYPES)

# Networks.

_VPC_PAGE = "https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html"
_VPC = _named(
    lambda name: name.replace("-", "_"),
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
    "log-status vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr region az-id sublocation-type "
    "sublocation-id pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path ecs-cluster-arn "
    "ecs-cluster-name ecs-container-instance-arn ecs-container-instance-id ecs-container-id "
    "ecs-second-container-id ecs-service-name ecs-task-definition-arn ecs-task-arn ecs-task-id reject-reason "
    "resource-id encryption-status",
)
_VPC_INTEGERS = "version srcport dstport protocol packets bytes start end tcp_flags traffic_path"

vpc_flow = _chosen(_VPC_PAGE, Fields(infer=False), _VPC, integers=_VPC_INTEGERS)
vpc_flow_parquet = _chosen(_VPC_PAGE, Parquet(null_values=["-"]), _VPC, integers=_VPC_INTEGERS)

route53_resolver = _records(
    "https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/resolver-query-logs-format.html",
    "version account_id region vpc_id query_timestamp query_name query_type query_class rcode answers srcaddr srcport "
    "transport srcids firewall_rule_group_id firewall_rule_action firewall_domain_list_id",
    required="query_timestamp",
    times="query_timestamp",
    integers="srcport",
)

network_firewall = _records(
    "https://docs.aws.amazon.com/network-firewall/latest/developerguide/firewall-logging-contents.html",
    "firewall_name availability_zone event_timestamp aws_category time=event/timestamp flow_id=event/flow_id "
    "event_type=event/event_type src_ip=event/src_ip src_port=event/src_port dest_ip=event/dest_ip "
    "dest_port=event/dest_port proto=event/proto app_proto=event/app_proto alert=event/alert netflow=event/netflow "
    "tls=event/tls http=event/http tcp=event/tcp",
    required="event_timestamp",
    times="time",
    integers="event_timestamp flow_id src_port dest_port",
)

# Security and configuration.

cloudtrail = _records(
    "https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html",
    "eventVersion userIdentity/type userIdentity/principalId userIdentity/arn userIdentity/accountId "
    "userIdentity/accessKeyId userIdentity/userName userIdentity/invokedBy userIdentity/sessionContext eventTime "
    "eventSource eventName awsRegion sourceIPAddress userAgent errorCode errorMessage requestParameters "
    "responseElements additionalEventData requestID eventID readOnly resources eventType apiVersion managementEvent "
    "recipientAccountId serviceEventDetails sharedEventID vpcEndpointId vpcEndpointAccountId eventCategory addendum "
    "sessionCredentialFromConsole edgeDeviceDetails tlsDetails/tlsVersion tlsDetails/cipherSuite "
    "tlsDetails/clientProvidedHostHeader",
    required="eventTime",
    options={"pointer": "/Records"},
    times="eventTime",
    booleans="readOnly managementEvent",
)

waf = _records(
    "https://docs.aws.amazon.com/waf/latest/developerguide/logging-fields.html",
    "timestamp formatVersion webaclId terminatingRuleId terminatingRuleType action terminatingRuleMatchDetails "
    "httpSourceName httpSourceId ruleGroupList rateBasedRuleList nonTerminatingMatchingRules requestHeadersInserted "
    "responseCodeSent httpRequest/clientIp httpRequest/country httpRequest/headers httpRequest/uri httpRequest/args "
    "httpRequest/httpVersion httpRequest/httpMethod httpRequest/requestId httpRequest/fragment httpRequest/scheme "
    "httpRequest/host labels captchaResponse challengeResponse ja3Fingerprint ja4Fingerprint oversizeFields "
    "requestBodySize requestBodySizeInspectedByWAF",
    required="timestamp",
    options={"null_values": ["-"]},
    integers="timestamp formatVersion responseCodeSent requestBodySize requestBodySizeInspectedByWAF",
)

guardduty = _records(
    "https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_finding-format.html",
    "schemaVersion accountId region partition id arn type resource service severity createdAt updatedAt title "
    "description",
    required="id",
    times="createdAt updatedAt",
    floats="severity",
)

config_snapshot = _records(
    "https://docs.aws.amazon.com/config/latest/developerguide/config-item-table.html",
    "configurationItemVersion configurationItemCaptureTime configurationStateId configurationItemStatus awsAccountId "
    "awsRegion availabilityZone resourceType resourceId resourceName ARN resourceCreationTime "
    "configurationStateMd5Hash configuration supplementaryConfiguration relationships relatedEvents tags",
    required="configurationItemCaptureTime",
    options={"pointer": "/configurationItems"},
    times="configurationItemCaptureTime resourceCreationTime",
    integers="configurationStateId",
)

# Applications.

cloudwatch_logs = _records(
    "https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html",
    "messageType owner logGroup logStream subscriptionFilters id=logEvents/id timestamp=logEvents/timestamp "
    "message=logEvents/message",
    required="messageType",
    options={"each": "/logEvents"},
    integers="timestamp",
)

api_gateway = _records(
    "https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html",
    "requestId extendedRequestId ip caller user requestTime requestTimeEpoch httpMethod resourcePath routeKey stage "
    "status protocol responseLength responseLatency integrationLatency errorMessage userAgent",
    options={"null_values": ["-"]},
    integers="requestTimeEpoch status responseLength responseLatency integrationLatency",
)

# Costs.

_COSTS_PAGE = "https://docs.aws.amazon.com/cur/latest/userguide/data-dictionary.html"
_COSTS = _named(
    lambda name: re.sub(r"(?<![/])(?=[A-Z])", "_", name).replace("/", "_").lower(),
    "identity/LineItemId identity/TimeInterval bill/InvoiceId bill/InvoicingEntity bill/BillingEntity "
    "bill/BillType bill/PayerAccountId bill/BillingPeriodStartDate bill/BillingPeriodEndDate "
    "lineItem/UsageAccountId lineItem/LineItemType lineItem/UsageStartDate lineItem/UsageEndDate "
    "lineItem/ProductCode lineItem/UsageType lineItem/Operation lineItem/AvailabilityZone lineItem/ResourceId "
    "lineItem/UsageAmount lineItem/NormalizationFactor lineItem/NormalizedUsageAmount lineItem/CurrencyCode "
    "lineItem/UnblendedRate lineItem/UnblendedCost lineItem/NetUnblendedRate lineItem/NetUnblendedCost "
    "lineItem/BlendedRate lineItem/BlendedCost lineItem/LineItemDescription lineItem/TaxType lineItem/LegalEntity "
    "product/ProductName product/sku product/region pricing/currency pricing/publicOnDemandCost "
    "pricing/publicOnDemandRate pricing/term pricing/unit reservation/ReservationARN reservation/EffectiveCost "
    "reservation/UnusedAmortizedUpfrontFeeForBillingPeriod reservation/UnusedRecurringFee "
    "savingsPlan/SavingsPlanARN savingsPlan/SavingsPlanRate savingsPlan/SavingsPlanEffectiveCost "
    "savingsPlan/TotalCommitmentToDate savingsPlan/UsedCommitment",
)
_COSTS_TYPES = {
    "times": "bill_billing_period_start_date bill_billing_period_end_date line_item_usage_start_date "
    "line_item_usage_end_date",
    "floats": "line_item_usage_amount line_item_normalization_factor line_item_normalized_usage_amount "
    "line_item_unblended_cost line_item_net_unblended_cost line_item_blended_cost pricing_public_on_demand_cost "
    "reservation_effective_cost reservation_unused_amortized_upfront_fee_for_billing_period "
    "reservation_unused_recurring_fee savings_plan_savings_plan_rate savings_plan_savings_plan_effective_cost "
    "savings_plan_total_commitment_to_date savings_plan_used_commitment",
}

cost_and_usage = _chosen(_COSTS_PAGE, Csv(separator=",", infer=False), _COSTS, **_COSTS_TYPES)
cost_and_usage_parquet = _chosen(_COSTS_PAGE, Parquet(), _COSTS, **_COSTS_TYPES)

# Web servers, and everything else that logs.

_COMBINED = (
    "remote_host",
    "identity",
    "remote_user",
    "time",
    "request",
    "status",
    "bytes_sent",
    "referer",
    "user_agent",
)

apache_combined = Log(
    Fields(_COMBINED, least=7, extra=EXTRA, times={"time": _CLF}),
    _typed([*_COMBINED, EXTRA], {"times": "time", "integers": "status bytes_sent"}),
    "https://httpd.apache.org/docs/current/logs.html#combined",
    required=("time",),
)
nginx_combined = Log(
    Fields(_COMBINED, least=7, extra=EXTRA, escape=None, times={"time": _CLF}),
    apache_combined.columns,
    "https://nginx.org/en/docs/http/ngx_http_log_module.html#log_format",
    required=("time",),
)
syslog = Log(
    Regex(
        r"<(?<priority>[0-9]{1,3})>(?<version>[1-9][0-9]{0,2}) (?<timestamp>\S+) (?<hostname>\S+) (?<app_name>\S+) "
        r"(?<procid>\S+) (?<msgid>\S+) "
        r'(?<structured_data>-|(?:\[[^ =\]"]+(?: [^ =\]"]+="(?:[^"\\]|\\.)*")*\])+)'
        r"(?: \x{FEFF}?(?<message>.*))?",
        null_values=["-"],
    ),
    {
        **_typed(["priority", "version", "timestamp"], {"times": "timestamp", "integers": "priority version"}),
        **_typed(["hostname", "app_name", "procid", "msgid", "structured_data", "message"], {}),
    },
    "https://www.rfc-editor.org/rfc/rfc5424#section-6",
    required=("priority",),
)

# What the key says.

_ACCOUNT = re.compile(r"(?:^|[/=_])([0-9]{12})(?=[/_])")
_REGION = re.compile(r"(?:^|[/=_])([a-z]{2}(?:-[a-z]+)+-[0-9])(?=[/_])")
_DAY = re.compile(
    r"(?:^|/)(?:year=)?([0-9]{4})/(?:month=)?([0-9]{1,2})/(?:day=)?([0-9]{1,2})(?=[/-])"
    r"|(?:^|[/.=])([0-9]{4})-([0-9]{2})-([0-9]{2})(?=[/.T-])"
)


def key_columns(key: str) -> dict[str, pl.Expr]:
    """The columns ``key_account``, ``key_region`` and ``key_date``: what a key says where AWS put a log, else null.

    >>> rows.with_columns(**key_columns(context.key))

    Hive's names are understood, too: ``aws-account-id=…/aws-region=…/year=…/month=…/day=…``.
    """
    account, region, day = _ACCOUNT.search(key), _REGION.search(key), _DAY.search(key)
    return {
        "key_account": pl.lit(account and account[1], dtype=pl.String()),
        "key_region": pl.lit(region and region[1], dtype=pl.String()),
        "key_date": pl.lit(_date(day), dtype=pl.Date()),
    }


def _date(match: re.Match[str] | None) -> date | None:
    try:
        return date(*(int(part) for part in match.groups() if part)) if match else None
    except ValueError:
        return None


__all__ = [
    "Log",
    "alb",
    "apache_combined",
    "api_gateway",
    "clb",
    "cloudfront",
    "cloudfront_json",
    "cloudfront_parquet",
    "cloudtrail",
    "cloudwatch_logs",
    "config_snapshot",
    "cost_and_usage",
    "cost_and_usage_parquet",
    "guardduty",
    "key_columns",
    "network_firewall",
    "nginx_combined",
    "nlb",
    "route53_resolver",
    "s3_access",
    "syslog",
    "vpc_flow",
    "vpc_flow_parquet",
    "waf",
]
