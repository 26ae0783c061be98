"""Numbers in the README and in docs/, written from the records in the repository by code.

A page marks where code writes:

    <!-- numbers: NAME -->
    a table
    <!-- end -->

`python -m tests.documents --write` writes all of them again; a test fails where a page differs.
"""
