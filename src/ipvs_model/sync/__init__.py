"""Connection synchronisation: one director tells another of its connections, so that the other can take over."""

from ipvs_model.sync.daemon import DaemonEntry, DaemonUser, SyncDaemons
from ipvs_model.sync.messages import SyncMessage, SyncRecord, SyncSeq, decode_message, encode_message
from ipvs_model.sync.receiver import RecordReport, SyncReport
from ipvs_model.sync.sender import SyncDatagram

__all__ = [
    "DaemonEntry",
    "DaemonUser",
    "RecordReport",
    "SyncDaemons",
    "SyncDatagram",
    "SyncMessage",
    "SyncRecord",
    "SyncReport",
    "SyncSeq",
    "decode_message",
    "encode_message",
]
