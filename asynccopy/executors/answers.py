"""A worker's part log calls, done and answered."""

from __future__ import annotations

from msgspec.structs import replace

from asynccopy.executors.backlog import Flight
from asynccopy.executors.frames import (
    Answer,
    AskUpload,
    BeginUpload,
    Channel,
    DropUpload,
    LogCall,
    PartDone,
    ToParent,
)
from asynccopy.model import MIB, OpenUpload


async def answer(channel: Channel[ToParent], flight: Flight, call: LogCall) -> None:
    """Do what the part log is asked, and say so when it is durable. Raises what the log raises."""
    log = flight.order.log
    match call:
        case AskUpload():
            await _tell(channel, call.call, await log.upload())
            return
        case BeginUpload():
            await log.begin_upload(call.upload)
            flight.logged = flight.earlier = 0
        case PartDone():
            await log.part_done(call.receipt)
            flight.logged += 1
            flight.deaths = 0
        case DropUpload():
            await log.drop_upload()
            flight.logged = flight.earlier = 0
    channel.send(Answer(call.call))


async def _tell(channel: Channel[ToParent], call: int, upload: OpenUpload | None) -> None:
    """In frames of about 1 MiB: ten thousand parts with the chunk CRCs of cut blocks are more than one may hold."""
    if upload is not None:
        first, size = 0, 0
        for count, receipt in enumerate(upload.parts, start=1):
            size += 256 + sum(len(block.digest) for block in receipt.blocks)
            if size >= MIB:
                channel.send(Answer(call, replace(upload, parts=upload.parts[first:count]), last=False))
                await channel.drain()
                first, size = count, 0
        upload = replace(upload, parts=upload.parts[first:])
    channel.send(Answer(call, upload))
