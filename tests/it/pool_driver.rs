//! A driver that nobody here wrote, `tokio-postgres`, through the pool: named statements with Describe and Close, pipelines,
//! COPY, portals, cancellation. Each sequence is what breaks where connections change hands between transactions.

use std::time::Duration;

use testkit::postgres::Instance;
use tokio_postgres::{NoTls, error::SqlState};

use crate::pooling::{connect, front, prepare, runtime};

#[test]
fn statements_pipelines_copy_portals_and_cancellation_work_through_one_connection() {
    let server = Instance::start().unwrap();
    prepare(&server);
    // One server connection for all: whatever two clients could confuse, they do.
    let (front, runtime) = (front(&[&server], 1, ""), runtime());
    let port = front.port.number();
    runtime.block_on(async {
        statements(port).await;
        pipelined(port).await;
        errors(port).await;
        copies_and_portals(port).await;
        cancelled(port).await;
    });
}

async fn statements(port: u16) {
    let (one, two) = (connect(port).await.unwrap(), connect(port).await.unwrap());
    // The driver counts names for each process, so that they differ; its texts are shared.
    let sums = one.prepare("select $1::int4 + 1").await.unwrap();
    let same = two.prepare("select $1::int4 + 1").await.unwrap();
    let text = two.prepare("select $1::text || 'x'").await.unwrap();
    for n in 0..20_i32 {
        assert_eq!(one.query_one(&sums, &[&n]).await.unwrap().get::<_, i32>(0), n + 1);
        assert_eq!(two.query_one(&same, &[&n]).await.unwrap().get::<_, i32>(0), n + 1);
        assert_eq!(two.query_one(&text, &[&"a"]).await.unwrap().get::<_, String>(0), "ax");
    }
    // Dropped statements are closed; their texts may be prepared again.
    drop((sums, same, text));
    for n in 0..300_i32 {
        let shape = format!("select $1::int4 + {n}");
        let statement = one.prepare(&shape).await.unwrap();
        assert_eq!(one.query_one(&statement, &[&1_i32]).await.unwrap().get::<_, i32>(0), n + 1);
    }
}

async fn pipelined(port: u16) {
    let client = connect(port).await.unwrap();
    let statement = client.prepare("select $1::int4 * 2").await.unwrap();
    let values: Vec<i32> = (0..200).collect();
    // Polled together, the driver sends them all before the first answer.
    let mut asked = Vec::new();
    for value in &values {
        let (client, statement) = (&client, &statement);
        asked.push(Box::pin(async move { client.query_one(statement, &[value]).await.unwrap().get::<_, i32>(0) }));
    }
    let mut answers = Vec::new();
    let mut first_poll = true;
    std::future::poll_fn(|context| {
        // The first look sends everything; later ones gather what has come, in order.
        if first_poll {
            first_poll = false;
            answers = asked.iter_mut().map(|one| one.as_mut().poll(context)).collect();
        } else {
            for (answer, one) in answers.iter_mut().zip(&mut asked).filter(|(answer, _)| answer.is_pending()) {
                *answer = one.as_mut().poll(context);
            }
        }
        if answers.iter().any(std::task::Poll::is_pending) {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    for (value, answer) in values.iter().zip(answers) {
        assert_eq!(answer, std::task::Poll::Ready(value * 2));
    }
}

async fn errors(port: u16) {
    let mut client = connect(port).await.unwrap();
    let statement = client.prepare("select 1 / $1::int4").await.unwrap();
    for _ in 0..3 {
        let error = client.query_one(&statement, &[&0_i32]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
        assert_eq!(client.query_one(&statement, &[&1_i32]).await.unwrap().get::<_, i32>(0), 1);
        let error = client.prepare("select nothing from nowhere").await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::UNDEFINED_TABLE));
    }
    let transaction = client.transaction().await.unwrap();
    transaction.query_one(&statement, &[&0_i32]).await.unwrap_err();
    let error = transaction.query_one(&statement, &[&1_i32]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    transaction.rollback().await.unwrap();
    assert_eq!(client.query_one(&statement, &[&1_i32]).await.unwrap().get::<_, i32>(0), 1);
}

async fn copies_and_portals(port: u16) {
    let mut client = connect(port).await.unwrap();
    client.batch_execute("create table if not exists copied (n int4); truncate copied").await.unwrap();
    let count = client.execute("insert into copied select n from generate_series(1, 5000) n", &[]).await.unwrap();
    assert_eq!(count, 5000);
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("select n from copied order by n", &[]).await.unwrap();
    let mut seen = 0_usize;
    loop {
        let rows = transaction.query_portal(&portal, 700).await.unwrap();
        if rows.is_empty() {
            break;
        }
        seen += rows.len();
    }
    assert_eq!(seen, 5000);
    transaction.commit().await.unwrap();
}

async fn cancelled(port: u16) {
    let client = connect(port).await.unwrap();
    let token = client.cancel_token();
    let asked = client.simple_query("select pg_sleep(30)");
    let cancel = async {
        // Again and again, because the first may come before the query.
        let mut each = tokio::time::interval(Duration::from_millis(50));
        loop {
            each.tick().await;
            token.cancel_query(NoTls).await.unwrap();
        }
    };
    tokio::select! {
        answer = asked => assert_eq!(answer.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED)),
        () = cancel => unreachable!("it goes on for ever"),
    }
    // A cancel that comes late meets nobody: the next query is answered. One may still be under way.
    let answered = |rows: Vec<_>| !rows.is_empty();
    let next = client.simple_query("select 1").await;
    assert!(next.is_ok_and(answered) || client.simple_query("select 1").await.is_ok_and(answered));
}
