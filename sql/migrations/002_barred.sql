-- That a gap could not be recorded each source says by a sequence of its own, which
-- freshet.make_change_table makes.
drop sequence if exists freshet.unrecorded;

alter table freshet.source
    -- the transaction that kept mending from it when somebody last tried, and since when that one did
    add column barred_by     text,
    add column barred_since  timestamptz;
