alter table freshet.source
    -- the transaction that kept mending from it when somebody last tried, and since when that one did
    add column if not exists barred_by     text,
    add column if not exists barred_since  timestamptz;
