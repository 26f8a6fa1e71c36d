-- The part of a trigger function that captures what is written in the first half millisecond of
-- a transaction, which for most is all they write; what it leaves goes on to the rest. Given are the
-- segment that is written to, up to which number of a change it cannot be as large as where
-- capture stops, and where that is; what captures an update of one row, an insert and a delete,
-- and what follows when anything is wrong.
--
-- Expressions are made ready anew in each transaction, with every function they name. So this
-- passes few of them: above all for the update of a single row, which is most of what databases
-- do. That has an insert of its own, which fails where there are more rows. The bell's lock is
-- taken first: if it is not to be had, somebody sleeps, and the rest rings.
create or replace function freshet.first_moments(
    source    integer,
    relation  oid,
    segment   text,
    room      bigint,
    stop      bigint,
    updated   text,
    inserted  text,
    deleted   text,
    failed    text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $body$
    select pg_catalog.format($sql$
    if tg_relid = %2$s and pg_catalog.clock_timestamp() < current_timestamp + interval '0.5 milliseconds' then
        begin
            if (pg_catalog.pg_sequence_last_value('freshet.changes_%1$s_id') <= %4$s or pg_catalog.pg_relation_size('%3$s') <= %5$s)
                and pg_catalog.pg_try_advisory_xact_lock_shared(1181905011, %1$s)
            then
                if tg_name = 'freshet_update' then%6$s
                    return null;
                elsif tg_name = 'freshet_insert' then%7$s
                    return null;
                elsif tg_name = 'freshet_delete' then%8$s
                    return null;
                end if;
            end if;
        exception
            when cardinality_violation then
                null; -- an update of several rows%9$s
                return null;
        end;
    end if;
$sql$, source, relation, segment, room, stop,
        updated, inserted, deleted, pg_catalog.replace(failed, E'\n', E'\n        '))
$body$;

revoke all on function freshet.first_moments(integer, oid, text, bigint, bigint, text, text, text, text) from public;
