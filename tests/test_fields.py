"""Every member of the kernel's structures, old and new, has its row."""

import json
from pathlib import Path

import pytest

from ipvs_model import conn, dest, protocol, service
from ipvs_model.conn import Conn, ConnExt, Seq
from ipvs_model.dest import Dest, DestUser
from ipvs_model.fields import KINDS, names, render
from ipvs_model.protocol import Protocol, ProtoData
from ipvs_model.service import Service, ServiceUser

OLDER = json.loads((Path(__file__).parent / "data" / "older_structs.json").read_text())
TABLES = {
    "ip_vs_conn": conn.FIELDS,
    "ip_vs_seq": conn.SEQ_FIELDS,
    "ip_vs_dest": dest.FIELDS,
    "ip_vs_dest_user_kern": dest.USER_FIELDS,
    "ip_vs_service": service.FIELDS,
    "ip_vs_service_user_kern": service.USER_FIELDS,
    "ip_vs_protocol": protocol.FIELDS,
}
OWNERS = {
    "ip_vs_conn": (Conn, ConnExt),
    "ip_vs_seq": (Seq,),
    "ip_vs_dest": (Dest,),
    "ip_vs_dest_user_kern": (DestUser,),
    "ip_vs_service": (Service,),
    "ip_vs_service_user_kern": (ServiceUser,),
    "ip_vs_protocol": (Protocol, ProtoData),
}


def test_every_structure_of_older_texts_has_a_table():
    assert set(OLDER) - {"note"} == set(TABLES)


@pytest.mark.parametrize("struct", sorted(TABLES))
def test_every_older_member_has_a_row(struct):
    assert set(OLDER[struct]) <= names(TABLES[struct])


@pytest.mark.parametrize("struct", sorted(TABLES))
def test_rows_are_well_formed(struct):
    for row in TABLES[struct]:
        assert row.kind in KINDS, row
        assert bool(row.python) != (row.kind == "not modelled"), row
        assert row.kind != "not modelled" or row.note, f"{row.name}: why is it not modelled?"


@pytest.mark.parametrize("struct", sorted(TABLES))
def test_what_a_row_names_exists(struct):
    for row in TABLES[struct]:
        if row.kind in ("slot", "ext"):
            for name in row.python.split(", "):
                name = name.split(".")[-1].removesuffix("()")
                assert any(hasattr(owner, name) or name in getattr(owner, "__annotations__", {}) for owner in OWNERS[struct]), row


def test_a_table_prints_as_text():
    assert render(service.USER_FIELDS).splitlines()[2].split() == ["protocol", "protocol", "u16", "slot"]
