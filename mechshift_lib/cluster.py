"""What a pair's file may ask of a cluster, under ``cluster``: no result depends on it."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field

#: The part of a pair's file: its line, and those below it that are indented.
_PART = re.compile(rb"^cluster:.*\n?(?:[ \t]+.*\n?)*", re.M)


class Request(BaseModel):
    """What a job asks for. What isn't said is estimated, or left to the cluster.

    Attributes:
        gpus: GPUs of one job.
        memory_gib: main memory, in GiB.
        minutes: time after which the cluster ends the job.
        partition: where it runs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpus: int | None = Field(default=None, ge=0, le=1024)
    memory_gib: int | None = Field(default=None, ge=1, le=2**20)
    minutes: int | None = Field(default=None, ge=1, le=10**6)
    partition: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")


class Cluster(Request):
    """What jobs of a pair ask for.

    Attributes:
        chapters: chapter -> what differs for it.
    """

    chapters: dict[str, Request] = Field(default_factory=dict)

    def of(self, chapter: str) -> Request:
        """What a chapter's job asks for."""
        given = self.chapters.get(chapter, Request()).model_dump(exclude_none=True)
        return Request(**self.model_dump(exclude={"chapters"}) | given)


def without_cluster(pair_file: bytes) -> bytes:
    """A pair's file as it counts for its pages, which more time on a cluster doesn't change."""
    return _PART.sub(b"", pair_file)
