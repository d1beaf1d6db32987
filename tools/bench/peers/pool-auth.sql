-- What the pooler asks for the verifier of a user: for `cargo xtask bench pool` and the tests against drivers.
create schema if not exists evenkeel;
create or replace function evenkeel.get_auth(name text) returns table (usename text, verifier text)
language sql stable security definer set search_path = pg_catalog
as $$ select rolname::text, rolpassword from pg_authid where rolname = name and rolcanlogin $$;
revoke all on schema evenkeel from public;
revoke all on function evenkeel.get_auth(text) from public;
grant usage on schema evenkeel to evenkeel;
grant execute on function evenkeel.get_auth(text) to evenkeel;
