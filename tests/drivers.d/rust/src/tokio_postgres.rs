//! tokio-postgres: binary both ways, pipelines by concurrent futures, COPY and portals.

mod told;

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use futures::{SinkExt as _, TryStreamExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, Error, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;
use told::{Failure, Told, ask, check, done, env, tls, wanted, wrong};
use uuid::Uuid;

const ME: &str = "tokio-postgres";

/// A session, and what the server says of itself.
struct Session {
    db: Client,
    said: UnboundedReceiver<Result<AsyncMessage, Error>>,
}

async fn open(password: &str) -> Result<Session, Failure> {
    let mut config = Config::new();
    config.host("localhost").port(env("PGPORT").parse()?).user(env("PGUSER")).dbname(env("PGDATABASE"));
    config.password(password).ssl_mode(tokio_postgres::config::SslMode::Require);
    let (db, mut connection) = config.connect(MakeRustlsConnect::new(tls()?)).await?;
    let (sender, said) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            let end = message.is_err();
            if sender.send(message).is_err() || end {
                return;
            }
        }
    });
    Ok(Session { db, said })
}

async fn connect() -> Result<Client, Failure> {
    Ok(open(&env("PGPASSWORD")).await?.db)
}

/// The server's error of that code.
fn fails<T>(code: &str, got: Result<T, Error>) -> Result<tokio_postgres::error::DbError, Failure> {
    let Err(error) = got else { return Err(wrong(format!("{code} did not come"))) };
    let told = error.as_db_error().cloned().ok_or_else(|| wrong(format!("wanted {code}, got {error}")))?;
    check(told.message(), told.code().code(), code)?;
    Ok(told)
}

async fn count(db: &Client, test: &str) -> Result<i64, Failure> {
    Ok(db.query_one("SELECT count(*) FROM notes WHERE test = $1", &[&test]).await?.get(0))
}

async fn connects() -> Told {
    check("one", connect().await?.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1)?;
    let refused =
        open(&(env("PGPASSWORD") + "x")).await.err().ok_or_else(|| wrong("a wrong token passed"))?;
    let told = refused
        .downcast_ref::<Error>()
        .and_then(Error::as_db_error)
        .ok_or_else(|| wrong("no error of the server"))?;
    check("code", told.code().code(), "28000")?;
    Ok(String::new())
}

async fn simple() -> Told {
    let db = connect().await?;
    let rows = db.simple_query("SELECT 1; SELECT 'two'").await?;
    let values: Vec<_> = rows
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    check("values", values, ["1", "two"])?;
    db.batch_execute(" -- nothing").await?;
    Ok(String::new())
}

async fn extended() -> Told {
    let db = connect().await?;
    let statement = db.prepare("SELECT name FROM items WHERE id = $1").await?;
    for n in 1..=20 {
        check("name", db.query_one(&statement, &[&n]).await?.get::<_, String>(0), format!("item {n}"))?;
    }
    let list = vec![Some(1), None, Some(3)];
    let row = db.query_one("SELECT $1::text, $2::int, $3::int[]", &[&"ü€", &None::<i32>, &list]).await?;
    check("text", row.get::<_, &str>(0), "ü€")?;
    check("null", row.get::<_, Option<i32>>(1), None::<i32>)?;
    check("list", row.get::<_, Vec<Option<i32>>>(2), list)?;
    Ok(String::new())
}

async fn binary() -> Told {
    let db = connect().await?;
    let (bytes, id, json) = (vec![0_u8, 255, 39, 92], Uuid::from_u128(7), serde_json::json!({"a": 1}));
    let sql = "SELECT $1::int8, $2::float8, $3::bytea, $4::uuid, $5::jsonb, $6::bool";
    let row = db.query_one(sql, &[&i64::MAX, &0.1_f64, &bytes, &id, &json, &true]).await?;
    check("int8", row.get::<_, i64>(0), i64::MAX)?;
    check("float8", row.get::<_, f64>(1), 0.1)?;
    check("bytea", row.get::<_, Vec<u8>>(2), bytes)?;
    check("uuid", row.get::<_, Uuid>(3), id)?;
    check("jsonb", row.get::<_, serde_json::Value>(4), json)?;
    check("bool", row.get::<_, bool>(5), true)?;
    Ok(String::new())
}

async fn transaction() -> Told {
    let mut db = connect().await?;
    let mut outer =
        db.build_transaction().isolation_level(tokio_postgres::IsolationLevel::Serializable).start().await?;
    outer.execute("INSERT INTO notes (test) VALUES ($1)", &[&ME]).await?;
    let inner = outer.savepoint("a").await?;
    fails("23505", inner.execute("INSERT INTO items (id, name) VALUES (1, 'again')", &[]).await)?;
    inner.rollback().await?;
    outer.commit().await?;
    check("rows", count(&db, ME).await?, 1)?;
    // Dropped without an end: the driver sends its ROLLBACK when it comes to it.
    db.transaction().await?.execute("INSERT INTO notes (test) VALUES ($1)", &[&ME]).await?;
    check("rows", count(&db, ME).await?, 1)?;
    Ok(String::new())
}

async fn batch() -> Told {
    let db = connect().await?;
    let test = format!("{ME}-batch");
    let statement = db.prepare("INSERT INTO notes (test, body) VALUES ($1, $2)").await?;
    let bodies: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let (db, statement, test_name) = (&db, &statement, test.as_str());
    try_join_all(bodies.iter().map(|body| async move { db.execute(statement, &[&test_name, body]).await }))
        .await?;
    check("rows", count(db, &test).await?, 1000)?;
    Ok("1000 executes in flight".into())
}

async fn pipeline() -> Told {
    let db = &connect().await?;
    let double = &db.prepare("SELECT $1::int * 2").await?;
    let got = join_all(
        (0..300_i32).map(|n| async move { Ok::<i32, Failure>(db.query_one(double, &[&n]).await?.get(0)) }),
    )
    .await;
    for (got, n) in got.into_iter().zip(0..) {
        check("double", got?, 2 * n)?;
    }
    let divide = &db.prepare("SELECT 1 / ($1::int - 1)").await?;
    let delete = "DELETE FROM notes WHERE $1";
    let (a, b, c, d) = tokio::join!(
        db.query_one(double, &[&1_i32]),
        db.query_one(divide, &[&1_i32]),
        db.query_typed(delete, &[(&true, Type::BOOL)]),
        db.query_one(double, &[&2_i32])
    );
    check("before", a?.get::<_, i32>(0), 2)?;
    fails("22012", b)?;
    fails("42501", c)?;
    check("behind", d?.get::<_, i32>(0), 4)?;
    Ok(String::new())
}

async fn copy_in() -> Told {
    let db = connect().await?;
    let test = format!("{ME}-copy");
    let sink = db.copy_in("COPY notes (test, body) FROM STDIN (FORMAT binary)").await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::TEXT]));
    for n in 0..3000 {
        writer.as_mut().write(&[&test, &format!("row {n}")]).await?;
    }
    check("written", writer.finish().await?, 3000)?;
    check("rows", count(&db, &test).await?, 3000)?;
    let mut bad = pin!(db.copy_in::<_, &[u8]>("COPY items (id, name) FROM STDIN").await?);
    for _ in 0..5000 {
        if bad.send(b"no number\tx\n").await.is_err() {
            break;
        }
    }
    fails("22P02", bad.finish().await)?;
    // Dropped without an end: CopyFail.
    drop(db.copy_in::<_, &[u8]>("COPY items (id, name) FROM STDIN").await?);
    check("behind it", count(&db, "nothing").await?, 0)?;
    Ok(String::new())
}

async fn copy_out() -> Told {
    let db = connect().await?;
    let stream = db.copy_out("COPY (SELECT id FROM items ORDER BY id) TO STDOUT (FORMAT binary)").await?;
    let rows: Vec<_> = pin!(BinaryCopyOutStream::new(stream, &[Type::INT4])).try_collect().await?;
    check("rows", rows.len(), 1000)?;
    check("last", rows[999].get::<i32>(0), 1000)?;
    Ok(String::new())
}

async fn cursor() -> Told {
    let mut db = connect().await?;
    let inside = db.transaction().await?;
    let portal = inside.bind("SELECT id FROM items WHERE id > $1 ORDER BY id", &[&0_i32]).await?;
    let mut seen = 0;
    loop {
        let rows = inside.query_portal(&portal, 7).await?;
        if rows.is_empty() {
            break;
        }
        seen += rows.len();
    }
    check("rows", seen, 1000)?;
    inside.batch_execute("DECLARE c SCROLL CURSOR FOR SELECT id FROM items ORDER BY id").await?;
    check("last", inside.query_one("FETCH LAST FROM c", &[]).await?.get::<_, i32>(0), 1000)?;
    inside.commit().await?;
    Ok("portals with a row limit".into())
}

async fn listen() -> Told {
    let mut one = open(&env("PGPASSWORD")).await?;
    let two = connect().await?;
    one.db.batch_execute("LISTEN tokio").await?;
    two.query("SELECT pg_notify('tokio', $1)", &[&"hello"]).await?;
    while let Some(message) = one.said.recv().await {
        if let AsyncMessage::Notification(told) = message? {
            check("payload", told.payload(), "hello")?;
            one.db.batch_execute("UNLISTEN *").await?;
            return Ok(String::new());
        }
    }
    Err(wrong("nothing was heard"))
}

async fn cancel() -> Told {
    let db = connect().await?;
    let token = db.cancel_token();
    let canceller = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if let Ok(config) = tls() {
                let _ = token.cancel_query(MakeRustlsConnect::new(config)).await;
            }
        }
    });
    let told = fails("57014", db.batch_execute("SELECT pg_sleep(600)").await);
    canceller.abort();
    told?;
    check("other", count(&connect().await?, "nothing").await?, 0)?;
    Ok("inside TLS".into())
}

async fn errors() -> Told {
    let mut db = connect().await?;
    let told = fails("23505", db.execute("INSERT INTO items (id, name) VALUES (1, $1)", &[&"x"]).await)?;
    check("schema", told.schema(), Some("shop"))?;
    check("table", told.table(), Some("items"))?;
    check("constraint", told.constraint(), Some("items_pkey"))?;
    check("detail", told.detail().is_some_and(|detail| detail.contains("already exists")), true)?;
    check("position", fails("42703", db.prepare("SELECT nothing").await)?.position().is_some(), true)?;
    let refused = fails("42501", db.execute("DELETE FROM notes WHERE $1", &[&true]).await)?;
    check("next step", refused.message().contains("Next:"), true)?;
    let inside = db.transaction().await?;
    fails("42501", inside.execute("DELETE FROM notes WHERE $1", &[&true]).await)?;
    fails("25P02", inside.execute("SELECT 1", &[]).await)?;
    inside.rollback().await?;
    check("alive", count(&db, "nothing").await?, 0)?;
    Ok(String::new())
}

async fn large_objects() -> Told {
    let db = connect().await?;
    let oid: u32 = db.query_one("SELECT lo_from_bytea(0, $1)", &[&b"abc".repeat(1000)]).await?.get(0);
    db.query("SELECT lo_put($1, 3, $2)", &[&oid, &&b"XYZ"[..]]).await?;
    check("read", db.query_one("SELECT lo_get($1, 3, 6)", &[&oid]).await?.get::<_, &[u8]>(0), b"XYZabc")?;
    check("unlink", db.query_one("SELECT lo_unlink($1)", &[&oid]).await?.get::<_, i32>(0), 1)?;
    Ok("by SQL functions; the driver has no other way".into())
}

async fn types() -> Told {
    let db = connect().await?;
    let statement = db.prepare("SELECT m, p FROM typed WHERE m = $1").await?;
    let kinds: Vec<&str> = statement.columns().iter().map(|column| column.type_().name()).collect();
    check("types", kinds, ["mood", "pair"])?;
    check("parameter", statement.params()[0].name(), "mood")?;
    db.clear_type_cache();
    Ok(String::new())
}

async fn reset() -> Told {
    let db = connect().await?;
    db.prepare("SELECT 1").await?;
    db.batch_execute("DISCARD ALL").await?;
    check("behind it", count(&db, "nothing").await?, 0)?;
    check("open", db.is_closed(), false)?;
    db.check_connection().await?;
    Ok(String::new())
}

async fn drain() -> Told {
    let mut session = open(&env("PGPASSWORD")).await?;
    let test = format!("{ME}-drain");
    let inside = session.db.transaction().await?;
    inside.execute("INSERT INTO notes (test, body) VALUES ($1, 'before')", &[&test]).await?;
    tokio::task::spawn_blocking(|| ask("drain")).await??;
    inside.execute("INSERT INTO notes (test, body) VALUES ($1, 'while')", &[&test]).await?;
    inside.commit().await?;
    let mut told = String::new();
    while let Some(message) = session.said.recv().await {
        if let Err(error) = message {
            told = error.as_db_error().map_or_else(|| error.to_string(), |e| e.code().code().to_owned());
        }
    }
    tokio::task::spawn_blocking(|| ask("reopen")).await??;
    check("kept", count(&connect().await?, &test).await?, 2)?;
    check("told", told.as_str(), "57P01")?;
    Ok(String::new())
}

#[tokio::main]
async fn main() {
    macro_rules! run {
        ($($name:literal: $step:ident,)*) => { $(if wanted($name) { done($name, $step().await); })* };
    }
    run! {
        "connect": connects, "simple": simple, "extended": extended, "binary": binary, "transaction": transaction,
        "batch": batch, "pipeline": pipeline, "copy in": copy_in, "copy out": copy_out, "cursor": cursor, "listen": listen,
        "cancel": cancel, "errors": errors, "large objects": large_objects, "types": types, "reset": reset, "drain": drain,
    }
}
