"""What may be asked of objects, and the headers that it comes to at each kind of store."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccopy.config.objects import OSS_CLASSES, ObjectOptions, Store, header_value
from asynccopy.errors import UsageError
from asynccopy.model import Attributes, FileStatus
from asynccopy.storage.objects import ObjectHeaders
from asynccopy.storage.oss.destination import DIALECT as OSS
from asynccopy.storage.registry import Settings, open_destination
from asynccopy.storage.s3.destination import DIALECT as S3

S3_CLASSES = (
    *("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"),
    *("REDUCED_REDUNDANCY", "EXPRESS_ONEZONE", "MAZ_STANDARD", "COLD"),
)
FILE = FileStatus("a/f", 3, 1_700_000_000_123, attributes=Attributes("étl", "data platform", 0o1750))


@pytest.mark.parametrize(
    ("store", "options"),
    [
        *[("s3", {"storage_class": name}) for name in S3_CLASSES],
        *[("oss", {"storage_class": name}) for name in OSS_CLASSES],
        ("s3", {"encryption": "aws:kms", "kms_key": "arn:aws:kms:eu-central-1:1:key/2"}),
        ("oss", {"encryption": "KMS", "kms_key": "key-1"}),
        ("s3", {"tags": tuple((f"n{number}", "é: /@+-=._") for number in range(10))}),
        ("s3", {"metadata": (("a", "x" * (2048 - 256 - 1)),)}),
        ("s3", {"metadata": (("a", "x" * 2047),), "file_metadata": False}),
        ("oss", {"metadata": (("a", "x" * (8192 - 256 - 1)),)}),
        ("s3", {"metadata": (("hdfs-owner", "x"),), "file_metadata": False}),
    ],
)
def test_what_may_be_asked(store: Store, options: dict[str, Any]) -> None:
    ObjectOptions(**options).check(store)


@pytest.mark.parametrize(
    ("store", "options", "says"),
    [
        ("s3", {"storage_class": "Standard"}, "`storage_class`: 'Standard' must be in capitals"),
        ("s3", {"storage_class": "IA\r\nx: y"}, "`storage_class`"),
        ("s3", {"storage_class": ""}, "`storage_class`"),
        ("oss", {"storage_class": "STANDARD"}, "must be one of Standard, IA, Archive, ColdArchive, DeepColdArchive"),
        ("s3", {"encryption": "KMS"}, "`encryption`: 'KMS' must be one of AES256, aws:kms"),
        ("oss", {"encryption": "aws:kms"}, "`encryption`: 'aws:kms' must be one of AES256, KMS"),
        ("s3", {"encryption": "AES256", "kms_key": "k"}, '`kms_key` needs `encryption` = "aws:kms"'),
        ("oss", {"kms_key": "k"}, '`kms_key` needs `encryption` = "KMS"'),
        ("oss", {"encryption": "KMS", "kms_key": "k\r\nx: y"}, "`kms_key`"),
        ("s3", {"tags": tuple((str(number), "") for number in range(11))}, "`tags`: an object has 10 at most"),
        ("s3", {"tags": (("", "x"),)}, "`tags`"),
        ("s3", {"tags": (("n" * 129, "x"),)}, "1 to 128 characters"),
        ("oss", {"tags": (("n", "x" * 257),)}, "at most 256"),
        ("oss", {"tags": (("a&b", "x"),)}, "only letters, digits, spaces"),
        ("s3", {"metadata": (("a_b", "x"),)}, "`metadata`: 'a_b' must be letters"),
        ("s3", {"metadata": (("Team", "x"), ("team", "y"))}, "twice"),
        ("oss", {"metadata": (("HDFS-Owner", "x"),)}, "`file_metadata` writes"),
        ("s3", {"metadata": (("a", "x" * 2047),)}, "2048 bytes of names and values, there is room for 1792"),
        ("s3", {"metadata": (("a", "é" * 350),)}, "2101 bytes"),
    ],
)
def test_what_may_not_be_asked(store: Store, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as caught:
        ObjectOptions(**options).check(store)
    assert says in str(caught.value)


def test_headers_of_s3() -> None:
    options = ObjectOptions(
        "GLACIER_IR", "aws:kms", "k-1", True, (("a", "b c"), ("ü", "=+")), (("Mode", "rw-\r\nx: y"),)
    )
    told = ObjectHeaders(options, S3)
    assert told.kept == [
        ("x-amz-storage-class", "GLACIER_IR"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "k-1"),
    ]
    assert told.described(None) == [("x-amz-meta-mode", "rw-%0D%0Ax: y"), ("x-amz-tagging", "a=b%20c&%C3%BC=%3D%2B")]
    assert told.condition == [("if-none-match", "*")]
    assert not told.archived


def test_headers_of_oss() -> None:
    options = ObjectOptions("ColdArchive", "KMS", "k-1", True, (("d", ""),), (("Mode", "x"),))
    told = ObjectHeaders(options, OSS)
    assert told.kept == [
        ("x-oss-storage-class", "ColdArchive"),
        ("x-oss-server-side-encryption", "KMS"),
        ("x-oss-server-side-encryption-key-id", "k-1"),
    ]
    assert told.described(None) == [("x-oss-meta-mode", "x"), ("x-oss-tagging", "d=")]
    assert told.condition == [("x-oss-forbid-overwrite", "true")]
    assert told.archived


def test_nothing_asked_is_nothing_said() -> None:
    for dialect in (S3, OSS):
        told = ObjectHeaders(ObjectOptions(), dialect)
        assert (told.kept, told.described(None), told.condition, told.archived) == ([], [], [], False)
        assert told.described(FileStatus("f", 1, 2)) == []


def test_an_object_says_whose_file_it_was() -> None:
    assert ObjectHeaders(ObjectOptions(metadata=(("Team", "x"),)), S3).described(FILE) == [
        ("x-amz-meta-hdfs-owner", "%C3%A9tl"),
        ("x-amz-meta-hdfs-group", "data platform"),
        ("x-amz-meta-hdfs-permission", "1750"),
        ("x-amz-meta-hdfs-mtime", "1700000000123"),
        ("x-amz-meta-team", "x"),
    ]
    assert ObjectHeaders(ObjectOptions(), OSS).described(FILE)[0] == ("x-oss-meta-hdfs-owner", "%C3%A9tl")
    assert ObjectHeaders(ObjectOptions(file_metadata=False), S3).described(FILE) == []


@given(st.text())
def test_every_text_comes_back_out_of_a_header(text: str) -> None:
    """HTTP drops spaces at the ends, and signing folds those in the middle."""
    text = text.encode("utf-8", "replace").decode()
    carried = header_value(text)
    assert carried.isascii()
    assert carried == " ".join(carried.split())
    assert carried == "" or carried.isprintable()
    assert unquote(carried) == text


@pytest.mark.parametrize(
    ("url", "settings", "says"),
    [
        ("s3://bucket/x", Settings(objects=ObjectOptions(storage_class="ia")), "`storage_class`: 'ia'"),
        (
            "oss://bucket/x",
            Settings(oss_region="cn-x", objects=ObjectOptions(storage_class="GLACIER")),
            "`storage_class`: 'GLACIER'",
        ),
        ("file:///x", Settings(objects=ObjectOptions(storage_class="STANDARD")), "only s3:// and oss://"),
        ("webhdfs://nn/x", Settings(objects=ObjectOptions(storage_class="STANDARD")), "only s3:// and oss://"),
    ],
)
def test_the_registry_refuses_what_a_store_does_not_know(url: str, settings: Settings, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_destination(url, settings)
