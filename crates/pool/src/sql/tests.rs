//! Tables of texts and what they are, and laws that hold of any text.

use proptest::prelude::*;

use super::*;

type T = Touches;

fn touches(text: &str) -> Touches {
    scan(text.as_bytes()).touches
}

fn shape(text: &str) -> String {
    normalise(text.as_bytes(), usize::MAX)
}

#[track_caller]
fn check(table: &[(&str, Touches)]) {
    for (text, expected) in table {
        assert_eq!(touches(text), *expected, "{text}");
    }
}

#[test]
fn a_setting_is_changed_for_the_session_or_not() {
    check(&[
        ("SET work_mem = '1MB'", T::SET),
        ("set/**/work_mem to 1", T::SET),
        ("SET SESSION work_mem = 1", T::SET),
        ("SET LOCAL work_mem = 1", T::NONE),
        ("SET LOCAL app.user = 'x'", T::NONE),
        ("set -- LOCAL\n work_mem = 1", T::SET),
        ("SET local.user = 'x'", T::SET),
        ("SET transaction.user = 'x'", T::SET),
        ("SET \"local\" = 1", T::SET),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", T::NONE),
        ("SET SESSION TRANSACTION READ ONLY", T::NONE),
        ("SET transaction_isolation = 'serializable'", T::NONE),
        ("SET CONSTRAINTS ALL DEFERRED", T::NONE),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", T::SET),
        ("SET TIME ZONE 'UTC'", T::SET),
        ("SET NAMES 'utf8'", T::SET),
        ("SET ROLE joe", T::SET),
        ("SET LOCAL ROLE joe", T::NONE),
        ("SET SESSION AUTHORIZATION joe", T::SET),
        ("SET LOCAL SESSION AUTHORIZATION joe", T::NONE),
        ("RESET work_mem", T::SET),
        ("RESET ALL", T::SET),
        ("RESET SESSION AUTHORIZATION", T::SET),
        ("UPDATE t SET a = 1", T::NONE),
        ("ALTER ROLE joe SET work_mem = 1", T::NONE),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET work_mem = 1 AS 'select 1'", T::NONE),
        ("UPDATE pg_settings SET setting = '1' WHERE name = 'work_mem'", T::SET_CONFIG),
        ("WITH x AS (UPDATE ONLY pg_catalog.\"pg_settings\" SET setting = '1') SELECT 1", T::SET_CONFIG),
        ("SELECT * FROM pg_settings", T::NONE),
    ]);
}

#[test]
fn a_call_of_set_config_is_seen_wherever_it_is() {
    check(&[
        ("SELECT set_config('a', 'b', false)", T::SET_CONFIG),
        ("SELECT set_config('a', 'b', true)", T::NONE),
        ("SELECT set_config('a', 'b', TRUE), set_config($1, $2, true)", T::NONE),
        ("SELECT set_config('a', 'b', true), set_config($1, $2, false)", T::SET_CONFIG),
        ("SELECT set_config('a', 'b', not true)", T::SET_CONFIG),
        ("SELECT set_config('a', 'b', true and false)", T::SET_CONFIG),
        ("SELECT set_config('a', 'b', $1)", T::SET_CONFIG),
        ("SELECT set_config('a', f(1, 2, 3), true)", T::NONE),
        ("SELECT set_config('a', f(1, true), false)", T::SET_CONFIG),
        ("SELECT set_config('a', (ARRAY['x', 'y'])[1], true)", T::NONE),
        ("SELECT set_config('a', set_config('c', 'd', false), true)", T::SET_CONFIG),
        ("SELECT pg_catalog.set_config /* so */ ('a', 'b', false)", T::SET_CONFIG),
        ("SELECT \"pg_catalog\".\"set_config\"('a', 'b', false)", T::SET_CONFIG),
        ("SELECT \"SET_CONFIG\"('a', 'b', false)", T::NONE),
        ("SELECT set_config FROM t", T::NONE),
        ("SELECT 'set_config(1,2,false)'", T::NONE),
        ("SELECT $$ set_config(1,2,false) $$", T::NONE),
        ("SELECT f(1, set_config('a', 'b', false))", T::SET_CONFIG),
        ("WITH x AS (SELECT set_config('a', 'b', false)) INSERT INTO t SELECT * FROM x", T::SET_CONFIG),
        ("EXPLAIN (ANALYZE) SELECT set_config('a', 'b', false)", T::SET_CONFIG),
        ("EXPLAIN (SELECT set_config('a', 'b', false))", T::SET_CONFIG),
        ("VALUES (1), (set_config('a', 'b', false))", T::SET_CONFIG),
        ("SELECT set_config(is_local => false, setting_name => 'a', new_value => 'b')", T::SET_CONFIG),
        ("CREATE TABLE t AS SELECT set_config('a', 'b', false)", T::SET_CONFIG),
        ("COPY (SELECT set_config('a', 'b', false)) TO STDOUT", T::SET_CONFIG | T::COPY),
        ("SELECT set_config('a', 'b'", T::SET_CONFIG),
    ]);
}

#[test]
fn advisory_locks_of_the_session_are_seen() {
    check(&[
        ("SELECT pg_advisory_lock(1)", T::LOCK),
        ("SELECT PG_TRY_ADVISORY_LOCK(1)", T::LOCK),
        ("SELECT pg_advisory_lock_shared(1, 2)", T::LOCK),
        ("SELECT pg_catalog.pg_try_advisory_lock_shared(1)", T::LOCK),
        ("SELECT \"pg_advisory_lock\"(1)", T::LOCK),
        ("SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(2)", T::NONE),
        ("SELECT pg_advisory_unlock(1)", T::UNLOCK),
        ("SELECT pg_advisory_unlock_shared(1)", T::UNLOCK),
        ("SELECT pg_advisory_unlock_all()", T::UNLOCK),
        ("LOCK TABLE t", T::NONE),
    ]);
}

#[test]
fn temporary_things_are_seen() {
    check(&[
        ("CREATE TEMP TABLE t (a int)", T::TEMPORARY),
        ("create temporary table t (a int)", T::TEMPORARY),
        ("CREATE LOCAL TEMPORARY TABLE t (a int)", T::TEMPORARY),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", T::TEMPORARY),
        ("CREATE TEMP SEQUENCE s", T::TEMPORARY),
        ("CREATE TEMP TABLE t (a int) ON COMMIT DROP", T::NONE),
        ("CREATE TEMP TABLE t ON COMMIT /* x */ DROP AS SELECT 1", T::NONE),
        ("CREATE TEMP TABLE t (a int) ON COMMIT DELETE ROWS", T::TEMPORARY),
        ("CREATE TEMP TABLE t (a int) ON COMMIT PRESERVE ROWS", T::TEMPORARY),
        ("CREATE TEMP TABLE t AS SELECT 1 FROM a JOIN b ON commit drop", T::TEMPORARY),
        ("CREATE TABLE temp (temp int)", T::NONE),
        ("CREATE UNLOGGED TABLE t (a int)", T::NONE),
        ("CREATE TABLE pg_temp.t (a int)", T::TEMPORARY),
        ("CREATE TABLE \"pg_temp\".t (a int)", T::TEMPORARY),
        ("CREATE FUNCTION pg_temp_17.f() RETURNS int LANGUAGE sql AS 'select 1'", T::TEMPORARY),
        ("SELECT 1 INTO TEMP t", T::TEMPORARY),
        ("SELECT 1 INTO TEMPORARY TABLE t", T::TEMPORARY),
        ("WITH x AS (SELECT 1) SELECT * INTO TEMP t FROM x", T::TEMPORARY),
        ("SELECT 1 INTO pg_temp.t", T::TEMPORARY),
        ("SELECT 1 INTO TABLE pg_temp.t", T::TEMPORARY),
        ("SELECT 1 INTO t", T::NONE),
        ("INSERT INTO temp VALUES (1)", T::NONE),
        ("INSERT INTO pg_temp.t VALUES (1)", T::NONE),
        ("MERGE INTO temp USING s ON true WHEN MATCHED THEN DELETE", T::NONE),
        ("SELECT temp, temporary FROM readings", T::NONE),
        ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", T::TEMPORARY),
        ("EXPLAIN (ANALYZE, VERBOSE) CREATE TEMP TABLE t AS SELECT 1", T::TEMPORARY),
        ("DROP TABLE t", T::DROP),
    ]);
}

#[test]
fn statements_and_cursors_that_are_kept_are_seen() {
    check(&[
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", T::HOLD),
        ("DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT 1", T::HOLD),
        ("DECLARE c CURSOR FOR SELECT 1", T::NONE),
        ("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", T::NONE),
        ("DECLARE c CURSOR FOR WITH hold AS (SELECT 1) SELECT * FROM hold", T::NONE),
        ("CLOSE c", T::CLOSE),
        ("PREPARE p AS SELECT 1", T::PREPARE),
        ("PREPARE transaction AS SELECT 1", T::PREPARE),
        ("PREPARE transaction (text) AS SELECT 'x'", T::PREPARE),
        ("PREPARE p AS SELECT set_config('a', $1, false)", T::PREPARE | T::SET_CONFIG),
        ("PREPARE TRANSACTION 'x'", T::END),
        ("EXECUTE p(1)", T::EXECUTE),
        ("CREATE TABLE t AS EXECUTE p", T::EXECUTE),
        ("EXPLAIN ANALYZE EXECUTE p", T::EXECUTE),
        ("EXPLAIN SET a = 1", T::NONE),
        ("EXPLAIN ANALYZE DECLARE c CURSOR WITH HOLD FOR SELECT 1", T::HOLD),
        ("GRANT EXECUTE ON FUNCTION f TO joe", T::NONE),
        ("CREATE TRIGGER t AFTER INSERT ON x EXECUTE FUNCTION f()", T::NONE),
        ("DEALLOCATE p", T::DEALLOCATE),
        ("DISCARD ALL", T::DISCARD),
        ("LOAD 'x'", T::LOAD),
        ("DO $$ begin end $$", T::OPAQUE),
        ("CALL p()", T::OPAQUE),
        ("LISTEN a", T::LISTEN),
        ("UNLISTEN *", T::UNLISTEN),
        ("NOTIFY a", T::NONE),
        ("COPY t FROM STDIN", T::COPY),
    ]);
}

#[test]
fn transactions_are_seen() {
    check(&[
        ("BEGIN", T::BEGIN),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE;", T::BEGIN),
        ("START TRANSACTION READ ONLY", T::BEGIN),
        ("COMMIT", T::END),
        ("END WORK", T::END),
        ("ABORT", T::END),
        ("ROLLBACK", T::END),
        ("COMMIT PREPARED 'x'", T::END),
        ("COMMIT AND CHAIN", T::END | T::BEGIN),
        ("ROLLBACK AND NO CHAIN", T::END),
        ("ROLLBACK TO a", T::ROLLBACK_TO),
        ("ROLLBACK WORK TO SAVEPOINT a", T::ROLLBACK_TO),
        ("SAVEPOINT a", T::NONE),
        ("RELEASE a", T::NONE),
        ("BEGIN; SET LOCAL a = 1; SET b = 1; COMMIT", T::BEGIN | T::SET | T::END),
    ]);
}

#[test]
fn statements_end_where_the_server_ends_them() {
    for (text, statements, kind, expected) in [
        ("", 0, Kind::Empty, T::NONE),
        (" ;; -- nothing\n ; /* */", 0, Kind::Empty, T::NONE),
        ("select 1;", 1, Kind::Select, T::NONE),
        ("select ';'; select 2", 2, Kind::Select, T::NONE),
        ("select \";\"; listen a", 2, Kind::Select, T::LISTEN),
        ("select 1 -- ; listen a", 1, Kind::Select, T::NONE),
        ("select 1 /* ; /* */ listen a; */", 1, Kind::Select, T::NONE),
        ("select 1 /* /* */ */; listen a", 2, Kind::Select, T::LISTEN),
        ("select $a$ ; $b$ ; $a$; listen a", 2, Kind::Select, T::LISTEN),
        ("select a$b$; listen a; --$b$", 2, Kind::Select, T::LISTEN),
        ("select '\\'; listen a", 2, Kind::Select, T::LISTEN),
        ("select E'\\'; listen a; --'", 1, Kind::Select, T::NONE),
        ("select 'a'\n'b; listen a'", 1, Kind::Select, T::NONE),
        ("select E'a' -- x\n '\\'; listen a; --'", 1, Kind::Select, T::NONE),
        ("select 'a' 'b; listen a'", 1, Kind::Select, T::NONE),
        ("select U&'\\0027'; listen a", 2, Kind::Select, T::LISTEN),
        ("select 1*-- ; listen b\n2; listen a", 2, Kind::Select, T::LISTEN),
        ("create rule r as on insert to t do also (delete from a; delete from b)", 1, Kind::Create, T::NONE),
        (
            "create function f() returns int begin atomic select case when true then 1 end; set a = 1; end; listen a",
            2,
            Kind::Create,
            T::LISTEN,
        ),
        ("create function f(begin atomic) returns int return 1; listen a", 2, Kind::Create, T::LISTEN),
        (
            "create function f() returns int begin atomic select 1 as \"end\"; select 2 as end; listen a; end",
            1,
            Kind::Create,
            T::NONE,
        ),
        ("create function f() returns int begin atomic select 1; listen a", 1, Kind::Create, T::OPAQUE),
        ("(select 1); (values (1))", 2, Kind::Select, T::NONE),
        ("table t", 1, Kind::Select, T::NONE),
        ("with a as (select 1) delete from t", 1, Kind::With, T::NONE),
        ("?", 1, Kind::Other, T::NONE),
        ("insert into t values (1)", 1, Kind::Insert, T::NONE),
        ("vacuum", 1, Kind::Other, T::NONE),
    ] {
        let scan = scan(text.as_bytes());
        assert_eq!((scan.statements, scan.kind, scan.touches), (statements, kind, expected), "{text}");
    }
}

#[test]
fn a_doubt_is_told() {
    for text in [
        "select 'a",
        "select E'\\'",
        "select E'\\",
        "select \"a",
        "select $a$ b",
        "select /* a",
        "select /* /* */",
        "select U&\"\\0061\"",
        "select 1a",
        "select $1a",
        "select 1E'\\'; listen a; --'",
    ] {
        assert!(touches(text).has(T::OPAQUE), "{text}");
    }
    for text in ["select 1e5, .5, 1., 1..2, 0x1F, 1_000, 0b_1", "select '\\'", "select $1::int"] {
        assert!(touches(text).is_empty(), "{text}");
    }
}

#[test]
fn a_shape_has_no_values() {
    for (text, expected) in [
        (
            "SELECT  *\nFROM T -- x\nWHERE Id=5 AND \"Name\" <> 'it''s';",
            "select * from t where id = ? and \"Name\" <> ?",
        ),
        ("select -5, a - 5, a -5, (-5), a=-5, f(a,-1.5e-3)", "select ?, a - ?, a - ?, (?), a = ?, f(a, ?)"),
        ("select count(*), t.*, a[1], x::int, '1'::text", "select count(*), t.*, a[?], x::int, ?::text"),
        ("select $1, $12 in ($1, $2)", "select $1, $12 in (...)"),
        ("select a in (1)", "select a in (...)"),
        ("select a in ($1::INTEGER, $2::timestamp with time zone, -3)", "select a in (...)"),
        ("select a not in (1, b)", "select a not in (?, b)"),
        ("select a in (select 1)", "select a in (select ?)"),
        ("select array[1,2,3]", "select array[...]"),
        ("insert into t(a,b) values (1,2)", "insert into t(a, b) values (?, ?)"),
        (
            "insert into t values (1,f(2)),(2,f((3))),(3,4) returning id",
            "insert into t values (?, f(?)),... returning id",
        ),
        ("values (1), (set_config('a','b',false)); select 1", "values (?),...; select ?"),
        ("select E'a\\'b', $$x$$, b'01', x'ff', U&'x', n'y', date '2020-01-01'", "select ?, ?, ?, ?, ?, ?, date ?"),
        ("create user x password 'secret'", "create user x password ?"),
        ("select 'a'\n'b'", "select ?"),
        (";;select 1;;select 2;", "select ?; select ?"),
        ("a := 1, b => 2, c->>'x' @> '{}'", "a := ?, b => ?, c ->> ? @> ?"),
        ("select 1\u{1}", "select ? \\"),
        ("SELECT É, \"É\"", "select É, \"É\""),
        ("", ""),
    ] {
        assert_eq!(shape(text), expected, "{text}");
        assert_eq!(scan(text.as_bytes()).fingerprint, scan(expected.as_bytes()).fingerprint, "{text}");
        assert_eq!(shape(expected), expected, "what has been written is written alike");
    }
}

#[test]
fn a_shape_is_cut_between_characters() {
    assert_eq!(normalise("select \"éé\"".as_bytes(), 9), "select \"");
    assert_eq!(normalise("select \"éé\"".as_bytes(), 10), "select \"é");
    assert_eq!(normalise(b"select \"\xff\xff\xff\"", 12), "select \"\u{fffd}");
    assert_eq!(normalise(b"select 1", 0), "");
    let rows = format!("insert into t values {}", ["(1)"; 500].join(","));
    assert_eq!(normalise(rows.as_bytes(), 40), "insert into t values (?),...");
    let list = format!("select a in ({})", ["1"; 500].join(","));
    assert_eq!(normalise(list.as_bytes(), 20), "select a in (...)");
}

#[test]
fn shapes_that_differ_have_other_fingerprints() {
    let texts = [
        "select a",
        "select b",
        "select a.b",
        "select a b",
        "select ab",
        "select \"ab\"",
        "select a, b",
        "select abcdefghij",
        "select abcdefgh ij",
        "select abcdefghik",
        "select 1",
        "select $1",
        "select $2",
        "select a + b",
        "select a - b",
        "select (a)",
        "select a; select a",
        "select a in (b)",
        "select a in (1)",
        "select \"a\0\"",
        "select É",
        "select é",
    ];
    for (i, a) in texts.iter().enumerate() {
        for b in &texts[i + 1..] {
            assert_ne!(scan(a.as_bytes()).fingerprint, scan(b.as_bytes()).fingerprint, "{a} / {b}");
        }
    }
}

#[test]
fn what_is_deallocated_is_told() {
    let name = |name: &'static str| Some(Deallocate::Name(Cow::Borrowed(name.as_bytes())));
    for (text, expected) in [
        ("DEALLOCATE p", name("p")),
        (" ; deallocate /* x */ PREPARE P1;", name("p1")),
        ("DEALLOCATE \"A \"\"b\"", name("A \"b")),
        ("DEALLOCATE prepare", name("prepare")),
        ("DEALLOCATE PREPARE prepare", name("prepare")),
        ("DEALLOCATE ALL", Some(Deallocate::All)),
        ("DEALLOCATE PREPARE ALL", Some(Deallocate::All)),
        ("DEALLOCATE \"all\"", name("all")),
        ("DEALLOCATE p; SELECT 1", None),
        ("SELECT 1; DEALLOCATE p", None),
        ("DEALLOCATE p q", None),
        ("DEALLOCATE U&\"p\"", None),
        ("DEALLOCATE", None),
        ("DEALLOCATE 'p'", None),
        ("DEALLOCATE p /*", None),
        ("", None),
    ] {
        assert_eq!(deallocates(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn settings_are_told_by_name() {
    for (text, names, all, unknown) in [
        ("SET work_mem = 1", &["work_mem"][..], false, false),
        ("SET SESSION Work_Mem = 1; RESET search_path", &["work_mem", "search_path"], false, false),
        ("SET \"App\".\"User\" = 'x'", &["app.user"], false, false),
        ("SET a.b.c.d TO 'x'", &["a.b.c.d"], false, false),
        ("SET LOCAL work_mem = 1", &[], false, false),
        ("SET local.a = 1", &["local.a"], false, false),
        ("SET session.a = 1", &["session.a"], false, false),
        ("SET TIME ZONE LOCAL", &["timezone"], false, false),
        ("SET SESSION TIME ZONE 'UTC'", &["timezone"], false, false),
        ("SET NAMES 'utf8'", &["client_encoding"], false, false),
        ("SET SCHEMA 'a'", &["search_path"], false, false),
        ("SET XML OPTION DOCUMENT", &["xmloption"], false, false),
        ("SET ROLE joe", &["role"], false, false),
        ("SET SESSION AUTHORIZATION joe", &["session_authorization"], false, false),
        ("RESET SESSION AUTHORIZATION", &["session_authorization"], false, false),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            &["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"],
            false,
            false,
        ),
        ("SET TRANSACTION READ ONLY; SET CONSTRAINTS ALL DEFERRED; SET transaction_read_only = on", &[], false, false),
        ("RESET ALL", &[], true, false),
        ("DISCARD ALL", &["role", "session_authorization"], true, false),
        ("DISCARD TEMP", &[], false, false),
        ("SELECT set_config('App.x', $1, false)", &["app.x"], false, false),
        ("SELECT set_config($$a$$, '1', false), set_config('it''s', '1', false)", &["a", "it's"], false, false),
        ("SELECT set_config('a', '1', true)", &[], false, false),
        ("SELECT set_config($1, '1', false)", &[], false, true),
        ("SELECT set_config('a' || 'b', '1', false)", &[], false, true),
        ("SELECT set_config(E'a', '1', false)", &[], false, true),
        ("SELECT set_config('a', set_config('b', 'c', false), false)", &["a"], false, true),
        ("UPDATE pg_settings SET setting = '1'", &[], false, true),
        ("SET U&\"x\" = 1", &[], false, true),
        ("SET a.b.c.d.e.f.g.h = 1", &[], false, true),
        ("SET", &[], false, true),
        ("SELECT 1", &[], false, false),
    ] {
        let expected = Settings { names: names.iter().map(ToString::to_string).collect(), all, unknown };
        assert_eq!(settings(text.as_bytes()), expected, "{text}");
    }
    let many: String = (0..65).map(|i| format!("SET a.b{i} = 1;")).collect();
    let told = settings(many.as_bytes());
    assert_eq!((told.names.len(), told.unknown), (64, true));
    assert!(!settings(many.rsplit_once("SET").unwrap().0.as_bytes()).unknown);
}

#[test]
fn a_plain_begin_is_told() {
    for text in [
        "BEGIN",
        "begin;",
        "; /* x */ BEGIN WORK",
        "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY NOT DEFERRABLE;",
        "START TRANSACTION",
        "start transaction read write",
    ] {
        assert!(is_plain_begin(text.as_bytes()), "{text}");
    }
    for text in
        ["", "BEGIN; SELECT 1", "START", "START WORK", "BEGIN x", "BEGIN 'x'", "SELECT 1; BEGIN", "BEGIN /*", "COMMIT"]
    {
        assert!(!is_plain_begin(text.as_bytes()), "{text}");
    }
}

/// Texts of pieces that mean something to the lexer.
fn texts() -> impl Strategy<Value = String> {
    const PIECES: [&str; 66] = [
        "select",
        "Values",
        "in",
        "array",
        "set",
        "local",
        "session",
        "set_config",
        "pg_temp",
        "temp",
        "into",
        "create",
        "or",
        "begin",
        "atomic",
        "case",
        "end",
        "as",
        "on",
        "commit",
        "drop",
        "update",
        "pg_settings",
        "true",
        "e",
        "u",
        "u&",
        "x",
        "é",
        "a_long_word_of_many",
        "\"Q\"",
        "\"\"",
        "'s'",
        "'",
        "\"",
        "''",
        "$1",
        "$",
        "$$",
        "$t$",
        "1",
        "1.5",
        "1e",
        ".",
        "..",
        "0x1",
        "(",
        ")",
        "[",
        "]",
        ",",
        ";",
        "::",
        ":",
        ":=",
        "-",
        "+",
        "--",
        "/*",
        "*/",
        "?",
        "<=",
        "@>",
        "\\",
        "\n",
        "@-",
    ];
    let piece = prop_oneof![4 => Just(" "), 12 => proptest::sample::select(&PIECES[..])];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Texts of whole tokens; few leave a doubt.
fn tokens() -> impl Strategy<Value = String> {
    const TOKENS: [&str; 52] = [
        "select",
        "Values",
        "in",
        "array",
        "SET",
        "local",
        "session",
        "set_config",
        "pg_temp",
        "temp",
        "into",
        "create",
        "or",
        "begin",
        "case",
        "end",
        "as",
        "on",
        "commit",
        "drop",
        "update",
        "pg_settings",
        "true",
        "e",
        "É",
        "a_long_word_of_many",
        "'s'",
        "'it''s'",
        "E'\\''",
        "$1",
        "$$;$$",
        "1",
        "1.5",
        ".",
        "0x1",
        "(",
        ")",
        "[",
        "]",
        ",",
        ";",
        "::",
        ":",
        ":=",
        "-",
        "+",
        "?",
        "<=",
        "@>",
        "/*;*/",
        "--;\n",
        "\n",
    ];
    let token = proptest::sample::select(&TOKENS[..]);
    proptest::collection::vec(token, 0..40).prop_map(|tokens| tokens.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_have_a_reading(bytes in proptest::collection::vec(any::<u8>(), 0..200), most in 0..100_usize) {
        scan(&bytes);
        prop_assert!(normalise(&bytes, most).len() <= most);
        settings(&bytes);
        deallocates(&bytes);
        is_plain_begin(&bytes);
    }

    #[test]
    fn one_fingerprint_is_one_shape(a in texts(), b in texts()) {
        let same = scan(a.as_bytes()).fingerprint == scan(b.as_bytes()).fingerprint;
        prop_assert_eq!(same, shape(&a) == shape(&b));
    }

    #[test]
    fn white_space_comments_and_case_do_not_matter(text in tokens()) {
        let scanned = scan(text.as_bytes());
        prop_assert_eq!(scanned, scan(format!(" /* -- */ {text}\n;-- end").as_bytes()));
        prop_assert_eq!(scanned, scan(text.replace(' ', "\t\x0b  ").as_bytes()));
        prop_assert_eq!(scanned, scan(text.to_ascii_uppercase().as_bytes()));
    }

    #[test]
    fn a_shape_is_the_shape_of_itself(text in texts()) {
        let once = shape(&text);
        prop_assert_eq!(shape(&once), once.clone());
        prop_assert_eq!(scan(text.as_bytes()).fingerprint, scan(once.as_bytes()).fingerprint);
    }

    #[test]
    fn cut_shapes_begin_alike(text in texts(), most in 0..60_usize) {
        let (whole, cut) = (shape(&text), normalise(text.as_bytes(), most));
        prop_assert!(whole.starts_with(&cut));
        prop_assert!(cut.len() + 3 >= whole.len().min(most));
    }

    #[test]
    fn what_is_touched_is_touched_behind_other_statements(text in tokens()) {
        let behind = scan(format!("select 1; {text}").as_bytes());
        prop_assert_eq!(behind.touches, touches(&text));
        prop_assert_eq!(behind.statements, scan(text.as_bytes()).statements + 1);
        if behind.touches.has_any(Touches::SET | Touches::SET_CONFIG) {
            let told = settings(text.as_bytes());
            prop_assert!(told.all || told.unknown || !told.names.is_empty(), "{:?}", told);
        }
    }
}
