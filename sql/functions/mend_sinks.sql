-- What follows for the sinks of a source from what became of it: `was` and `now` are its
-- fingerprints, `rebased` says that it is another table. `missed`: any change may have been missed;
-- `large`: rows came that nobody has touched; `gone`: rows may be gone without a trigger; `unfit`:
-- it cannot be captured, as the source's fingerprint will say: asked anew, it could be over before
-- the next look. Returns what was the matter with the sinks themselves.
create or replace function freshet.mend_sinks(
    source   integer,
    was      jsonb,
    now      jsonb,
    rebased  boolean,
    missed   boolean,
    large    boolean,
    gone     boolean,
    unfit    boolean,
    out why  text[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_columns   boolean := now -> 'columns' is distinct from was -> 'columns';
    v_moved     boolean := was ? 'relation' and now -> 'relation' is distinct from was -> 'relation';
    -- names that can have come to mean something else: those of columns that are not what they were, and with a column
    -- gone or renamed the table's, which stands for whole rows. What a transform reads, its text need not say.
    v_names     text[] := (
        select pg_catalog.array_agg(distinct pg_catalog.lower(x.name))
        from pg_catalog.jsonb_each(was -> 'columns') w
        cross join lateral (values (w.value ->> 0), (now -> 'columns' -> w.key ->> 0), ((select o.table_name from freshet.source o where o.id = mend_sinks.source)::text)) as x (name)
        where now -> 'columns' -> w.key is distinct from w.value and x.name is not null);
    v_retyped   boolean := exists (
        select from pg_catalog.jsonb_each(was -> 'columns') w join pg_catalog.jsonb_each(now -> 'columns') n on n.key = w.key
        where n.value - 0 <> w.value - 0);
    v_sink      record;
    v_reshaped  boolean;            -- its entries have other columns
    v_rewarm    boolean;
begin
    why := '{}';
    for v_sink in
        select s.id, s.on_schema_change, s.broken, s.grouped, s.value_type,
               coalesce(s.filter, s.expires_at, s.value, s.transform) is not null and (
                   v_moved or s.transform is not null and v_names is not null or exists (
                       select from pg_catalog.unnest(v_names) as n (name)
                       where pg_catalog.strpos(pg_catalog.lower(pg_catalog.concat_ws(' ', s.filter, s.expires_at, s.value)), pg_catalog.replace(n.name, '"', '""')) > 0)) as shifted,
               exists (
                   select from pg_catalog.jsonb_array_elements(s.calls) as c (call)
                   where now -> 'calls' -> c.call::text <> was -> 'calls' -> c.call::text) as recalled,
               exists (
                   select from (
                       select u from pg_catalog.unnest(s.column_attnums || s.key_attnums) as u
                       union
                       select k::smallint from pg_catalog.jsonb_object_keys(now -> 'columns') as k where s.column_attnums is null
                       union
                       select k::smallint from pg_catalog.jsonb_object_keys(was -> 'columns') as k where s.column_attnums is null) as u (attnum)
                   where now -> 'columns' -> u.attnum::text is distinct from was -> 'columns' -> u.attnum::text) as reshaped
        from freshet.sink s
        where s.source_id = mend_sinks.source and s.state <> 'dropping'
        order by s.id
    loop
        if v_columns or v_moved or missed or v_sink.recalled or now -> 'unique' is distinct from was -> 'unique' or v_sink.broken is not null then
            perform freshet.resurvey(v_sink.id);
        end if;
        v_reshaped := v_sink.reshaped and was <> '{}' or v_sink.shifted or rebased
            -- Nobody who reads comes upon that any more: it is what is expected from now on.
            or exists (select from freshet.sink s where s.id = v_sink.id and s.value_type is distinct from v_sink.value_type);
        -- A group whose rows are gone in part is no orphan.
        v_rewarm := missed or large or v_sink.recalled or gone and v_sink.grouped or v_reshaped and v_sink.on_schema_change = 'rewarm';
        if v_sink.recalled then
            why := why || 'a function of a sink was replaced'::text;
        end if;
        if v_reshaped then
            why := why || 'columns of a sink were changed'::text;
            update freshet.sink s
            set notice = case when not v_rewarm then pg_catalog.format(
                    'columns of the source were changed on %s: run select freshet.backfill(%L) to give older entries their new shape',
                    pg_catalog.to_char(pg_catalog.now(), 'YYYY-MM-DD'), s.name) end
            where s.id = v_sink.id;
        end if;
        -- With another definition nobody writes what he had read before: no change would follow that sets it right.
        update freshet.sink s
        set revision = s.revision + 1, definition = s.definition + case when v_reshaped or v_rewarm then 1 else 0 end
        where s.id = v_sink.id;
        -- Of what cannot be captured nothing is read. It is of another kind again when it can.
        continue when unfit;
        if v_rewarm then
            perform freshet.request_rewarm(v_sink.id, missed or large or gone or v_sink.recalled or v_sink.shifted);
        end if;
        if missed or gone or v_sink.recalled or v_sink.shifted or v_reshaped and v_retyped then
            perform freshet.request_sweep(v_sink.id, pg_catalog.pg_current_snapshot());
        end if;
    end loop;
end
$$;

revoke all on function freshet.mend_sinks(integer, jsonb, jsonb, boolean, boolean, boolean, boolean, boolean) from public;
