"""A results folder put into its archive: loose files of single cells become two compressed ones."""

from __future__ import annotations

import contextlib

from harness.errors import UserError
from harness.records.archive import Archive, compressed_items, compressed_records
from harness.records.digest import digest_of_lines
from harness.records.reading import Damaged
from harness.records.record import Record
from harness.records.store import Store


def archive(store: Store) -> int:
    """Put all records and items of a results folder into its archive; return how many records.

    The loose files are deleted once the compressed ones are on the disk. Hold the folder's lock
    while it works.

    Raises:
        UserError: there is no record, one is damaged, items are missing, or the disk is full.
    """
    records, items = _whole(store)
    if not records:
        raise UserError(f"{store.folder}: no records to archive. Run 'moebench run' first.")
    if items:
        store.put(store.archived.items_path, compressed_items(items))
    store.put(store.archived.records_path, compressed_records(records))
    if not items:
        store.archived.items_path.unlink(missing_ok=True)
    store.archived = Archive(store.folder)
    for record in records:
        store.loose.record_path(record.cell).unlink(missing_ok=True)
        store.loose.items_path(record.cell).unlink(missing_ok=True)
    for folder in store.loose.folders:
        with contextlib.suppress(OSError):  # what else lies there stays there
            folder.rmdir()
    return len(records)


def _whole(store: Store) -> tuple[list[Record], dict[str, list[bytes]]]:
    """All records, and the lines of their items by cell.

    Raises:
        UserError: one is damaged, or items are missing.
    """
    records: list[Record] = []
    items: dict[str, list[bytes]] = {}
    lost = store.damage()
    for cell in store.cells():
        try:
            record, lines = store.read(cell), store.lines(cell)
        except Damaged as error:
            lost.append(error)
            continue
        if record and lines:
            items[cell] = [line.text for line in lines]
            record = record.model_copy(update={"items_sha256": digest_of_lines(items[cell])})
        records += [record] if record else []
    # What is damaged may be dropped once every cell of the plan has a record again.
    if lost and not _complete(store, records):
        raise lost[0]
    return records, items


def _complete(store: Store, records: list[Record]) -> bool:
    try:
        planned = {cell.id for cell in store.plan().cells}
    except UserError:
        return False
    return planned <= {record.cell for record in records}
