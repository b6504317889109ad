"""Repairs what events missed: sends an event for every silver object that is missing or stale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from silversmith.lineage import Decision
from silversmith.operations.target import Target
from silversmith.pipeline import Pipeline
from silversmith.reconcile.compare import Finding, Looked, look
from silversmith.stores import batched

#: How many keys are looked at before what was found is sent.
BATCH = 500


@dataclass(frozen=True)
class Batch:
    """What came of looking at some keys of a transform.

    ``checked`` counts the keys. ``found`` is what is missing, stale or outdated: sent, unless only looked at;
    ``waiting`` what is so too, but a message of it is on its way or in a dead-letter queue, so that it was not sent;
    ``orphaned`` is silver that nothing in bronze explains, ``foreign`` silver that another pipeline made. Nothing is
    done about either. ``given_up`` is left alone, because this code has failed on these bytes as often as it may, and
    no dead message of it is left.
    """

    transform: str
    checked: int
    found: Sequence[Finding]
    waiting: Sequence[Finding]
    orphaned: Sequence[Finding]
    foreign: Sequence[Finding] = ()
    given_up: Sequence[Finding] = ()


def reconcile(
    pipeline: Pipeline,
    target: Target,
    *,
    transform: str | None = None,
    changed: bool = False,
    dead: bool = False,
    dry_run: bool = False,
    batch: int = BATCH,
) -> Iterator[Batch]:
    """Compare bronze with silver's lineage, key by key, and send what is not as it should be to its queue.

    Lazy: each batch is sent before it is returned, so a caller that stops has lost nothing. Memory is bounded.

    Args:
        pipeline: whose transforms.
        target: where it runs.
        transform: only this one.
        changed: also what other code made.
        dead: also what the code has failed on as often as it may.
        dry_run: send nothing.
        batch: how many keys to look at at a time.

    Raises:
        DefinitionError: the pipeline has no such transform.
        NotOurs: a transform's silver is another pipeline's.
        WrongCall: there is something to send, and nowhere to send it.
    """
    for each in [pipeline.find(transform)] if transform is not None else pipeline.transforms:
        looked = look(each, target.lake, changed=changed, dead=dead, workers=target.workers, owner=target.owner)
        for some in batched(looked, batch):
            found = _sorted_out(each.name, some, target)
            if found.found and not dry_run:
                events = [finding.event(pipeline.bronze) for finding in found.found]
                target.send(each.name, events, reason="reconcile")
            yield found


def _sorted_out(transform: str, looked: Sequence[Looked], target: Target) -> Batch:
    findings = [item.finding for item in looked if item.finding is not None]
    wrong = {finding.key: finding for finding in findings if finding.is_to_be_sent}
    given_up = {item.given_up.key: item.given_up for item in looked if item.given_up is not None}
    asked = {key: finding.etag for key, finding in (wrong | given_up).items()}
    waiting = target.waiting(transform, asked) if asked else set()
    return Batch(
        transform,
        len(looked),
        found=[finding for key, finding in wrong.items() if key not in waiting],
        waiting=[finding for key, finding in (wrong | given_up).items() if key in waiting],
        orphaned=[finding for finding in findings if finding.kind is Decision.ORPHANED],
        foreign=[finding for finding in findings if finding.kind is Decision.FOREIGN],
        given_up=[finding for key, finding in given_up.items() if key not in waiting],
    )
