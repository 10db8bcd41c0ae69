//! sqlx: named statements, binary both ways, its pool and listener.

mod told;

use std::time::Duration;

use futures::TryStreamExt as _;
use sqlx::postgres::{
    PgConnectOptions, PgConnection, PgDatabaseError, PgListener, PgPoolCopyExt as _, PgPoolOptions, PgSslMode,
};
use sqlx::{Connection as _, Error, Executor as _, Row as _};
use told::{Failure, Told, ask, check, done, env, tell, wanted, wrong};

const ME: &str = "sqlx";

fn settings() -> Result<PgConnectOptions, Failure> {
    Ok(PgConnectOptions::new_without_pgpass()
        .host("localhost")
        .port(env("PGPORT").parse()?)
        .username(&env("PGUSER"))
        .database(&env("PGDATABASE"))
        .password(&env("PGPASSWORD"))
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(env("PGSSLROOTCERT")))
}

async fn connect() -> Result<PgConnection, Failure> {
    Ok(PgConnection::connect_with(&settings()?).await?)
}

/// The server's error of that code.
fn fails<T>(code: &str, got: Result<T, Error>) -> Result<Box<PgDatabaseError>, Failure> {
    let Err(error) = got else { return Err(wrong(format!("{code} did not come"))) };
    let Error::Database(told) = error else { return Err(wrong(format!("wanted {code}, got {error}"))) };
    let told = told.try_downcast::<PgDatabaseError>().map_err(|_| wrong("an error of another database"))?;
    check(told.message(), told.code(), code)?;
    Ok(told)
}

async fn count(db: &mut PgConnection, test: &str) -> Result<i64, Failure> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM notes WHERE test = $1").bind(test).fetch_one(db).await?)
}

async fn connects() -> Told {
    check("one", sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut connect().await?).await?, 1)?;
    let refused = PgConnection::connect_with(&settings()?.password(&(env("PGPASSWORD") + "x"))).await;
    fails("28000", refused)?;
    Ok("its startup packet sets DateStyle, TimeZone, extra_float_digits and client_encoding".into())
}

async fn simple() -> Told {
    let mut db = connect().await?;
    let rows = sqlx::raw_sql("SELECT 1 AS x; SELECT 2 AS x").fetch_all(&mut db).await?;
    check("values", rows.iter().map(|row| row.get::<i32, _>(0)).collect::<Vec<_>>(), [1, 2])?;
    db.execute(sqlx::raw_sql(" -- nothing")).await?;
    Ok(String::new())
}

async fn extended() -> Told {
    let mut db = connect().await?;
    for n in 1..=20 {
        let name: String =
            sqlx::query_scalar("SELECT name FROM items WHERE id = $1").bind(n).fetch_one(&mut db).await?;
        check("name", name, format!("item {n}"))?;
    }
    let list = vec![Some(1), None, Some(3)];
    let row = sqlx::query("SELECT $1::text, $2::int, $3::int[]")
        .bind("ü€")
        .bind(None::<i32>)
        .bind(&list)
        .fetch_one(&mut db)
        .await?;
    check("text", row.get::<String, _>(0), "ü€")?;
    check("null", row.get::<Option<i32>, _>(1), None::<i32>)?;
    check("list", row.get::<Vec<Option<i32>>, _>(2), list)?;
    check("cached", db.cached_statements_size() > 1, true)?;
    db.clear_cached_statements().await?;
    Ok(String::new())
}

async fn binary() -> Told {
    let mut db = connect().await?;
    let bytes = vec![0_u8, 255, 39, 92];
    let sql = "SELECT $1::int8, $2::float8, $3::bytea, $4::bool";
    let row =
        sqlx::query(sql).bind(i64::MAX).bind(0.1_f64).bind(&bytes).bind(true).fetch_one(&mut db).await?;
    check("int8", row.get::<i64, _>(0), i64::MAX)?;
    check("float8", row.get::<f64, _>(1), 0.1)?;
    check("bytea", row.get::<Vec<u8>, _>(2), bytes)?;
    check("bool", row.get::<bool, _>(3), true)?;
    Ok(String::new())
}

async fn transaction() -> Told {
    let mut db = connect().await?;
    let mut outer = db.begin().await?;
    sqlx::query("INSERT INTO notes (test) VALUES ($1)").bind(ME).execute(&mut *outer).await?;
    let mut inner = outer.begin().await?;
    fails(
        "23505",
        sqlx::query("INSERT INTO items (id, name) VALUES (1, 'again')").execute(&mut *inner).await,
    )?;
    inner.rollback().await?;
    outer.commit().await?;
    check("rows", count(&mut db, ME).await?, 1)?;
    Ok(String::new())
}

async fn batch() -> Told {
    let mut db = connect().await?;
    let test = format!("{ME}-batch");
    let bodies: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let sql = "INSERT INTO notes (test, body) SELECT $1, unnest($2::text[])";
    check("rows", sqlx::query(sql).bind(&test).bind(&bodies).execute(&mut db).await?.rows_affected(), 1000)?;
    Ok("by an array".into())
}

async fn copy_in() -> Told {
    let mut db = connect().await?;
    let test = format!("{ME}-copy");
    let mut copy = db.copy_in_raw("COPY notes (test, body) FROM STDIN").await?;
    for n in 0..3000 {
        copy.send(format!("{test}\trow {n}\n").into_bytes()).await?;
    }
    check("written", copy.finish().await?, 3000)?;
    let mut given_up = db.copy_in_raw("COPY notes (test, body) FROM STDIN").await?;
    given_up.send(&b"x\ty\n"[..]).await?;
    given_up.abort("given up").await?;
    let mut bad = db.copy_in_raw("COPY items (id, name) FROM STDIN").await?;
    bad.send(&b"no number\tx\n"[..]).await?;
    fails("22P02", bad.finish().await)?;
    check("rows", count(&mut db, &test).await?, 3000)?;
    Ok(String::new())
}

async fn copy_out() -> Told {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(settings()?).await?;
    let mut stream = pool.copy_out_raw("COPY (SELECT id FROM items ORDER BY id) TO STDOUT").await?;
    let mut out = Vec::new();
    while let Some(block) = stream.try_next().await? {
        out.extend_from_slice(&block);
    }
    check("rows", out.iter().filter(|byte| **byte == b'\n').count(), 1000)?;
    drop(stream);
    pool.close().await;
    Ok(String::new())
}

async fn cursor() -> Told {
    let mut db = connect().await?;
    let mut rows = sqlx::query("SELECT id FROM items ORDER BY id").fetch(&mut db);
    let mut seen = 0;
    while rows.try_next().await?.is_some() {
        seen += 1;
    }
    drop(rows);
    check("rows", seen, 1000)?;
    let mut inside = db.begin().await?;
    sqlx::query("DECLARE c SCROLL CURSOR FOR SELECT id FROM items ORDER BY id").execute(&mut *inside).await?;
    check("last", sqlx::query_scalar::<_, i32>("FETCH LAST FROM c").fetch_one(&mut *inside).await?, 1000)?;
    inside.commit().await?;
    // Given up in the middle: the driver reads on to ReadyForQuery before its next statement.
    let mut early = sqlx::query("SELECT id FROM items").fetch(&mut db);
    early.try_next().await?;
    drop(early);
    check("behind it", count(&mut db, "nothing").await?, 0)?;
    Ok("rows streamed; DECLARE by hand".into())
}

async fn listen() -> Told {
    let pool = PgPoolOptions::new().max_connections(2).connect_with(settings()?).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("sqlx").await?;
    sqlx::query("SELECT pg_notify('sqlx', $1)").bind("hello").execute(&pool).await?;
    check("payload", listener.recv().await?.payload(), "hello")?;
    listener.unlisten_all().await?;
    drop(listener);
    pool.close().await;
    Ok(String::new())
}

async fn errors() -> Told {
    let mut db = connect().await?;
    let told = fails(
        "23505",
        sqlx::query("INSERT INTO items (id, name) VALUES (1, $1)").bind("x").execute(&mut db).await,
    )?;
    check("schema", told.schema(), Some("shop"))?;
    check("table", told.table(), Some("items"))?;
    check("constraint", told.constraint(), Some("items_pkey"))?;
    check("detail", told.detail().is_some_and(|detail| detail.contains("already exists")), true)?;
    let refused =
        fails("42501", sqlx::query("DELETE FROM notes WHERE $1").bind(true).execute(&mut db).await)?;
    check("next step", refused.message().contains("Next:"), true)?;
    let mut inside = db.begin().await?;
    fails("42501", sqlx::query("DELETE FROM notes WHERE $1").bind(true).execute(&mut *inside).await)?;
    fails("25P02", sqlx::query("SELECT 1").execute(&mut *inside).await)?;
    inside.rollback().await?;
    check("alive", count(&mut db, "nothing").await?, 0)?;
    Ok(String::new())
}

async fn large_objects() -> Told {
    let mut db = connect().await?;
    let oid: sqlx::postgres::types::Oid = sqlx::query_scalar("SELECT lo_from_bytea(0, $1)")
        .bind(b"abc".repeat(1000))
        .fetch_one(&mut db)
        .await?;
    sqlx::query("SELECT lo_put($1, 3, $2)").bind(oid).bind(&b"XYZ"[..]).execute(&mut db).await?;
    let read: Vec<u8> = sqlx::query_scalar("SELECT lo_get($1, 3, 6)").bind(oid).fetch_one(&mut db).await?;
    check("read", read.as_slice(), b"XYZabc")?;
    check(
        "unlink",
        sqlx::query_scalar::<_, i32>("SELECT lo_unlink($1)").bind(oid).fetch_one(&mut db).await?,
        1,
    )?;
    Ok("by SQL functions; the driver has no other way".into())
}

/// An enumeration of the database: the driver looks it up by name.
#[derive(Debug, PartialEq)]
struct Mood(String);

impl sqlx::Type<sqlx::Postgres> for Mood {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        sqlx::postgres::PgTypeInfo::with_name("mood")
    }
}

impl<'r> sqlx::Decode<'r, sqlx::Postgres> for Mood {
    fn decode(value: sqlx::postgres::PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(Self(value.as_str()?.to_owned()))
    }
}

impl sqlx::Encode<'_, sqlx::Postgres> for Mood {
    fn encode_by_ref(
        &self,
        buffer: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(sqlx::encode::IsNull::No)
    }
}

async fn types() -> Told {
    let mut db = connect().await?;
    let mood: Mood = sqlx::query_scalar("SELECT m FROM typed WHERE m = $1")
        .bind(Mood("ok".into()))
        .fetch_one(&mut db)
        .await?;
    check("enumeration", mood, Mood("ok".into()))?;
    Ok(String::new())
}

async fn reset() -> Told {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(settings()?).await?;
    for _ in 0..3 {
        let mut db = pool.acquire().await?;
        db.execute(sqlx::raw_sql("DISCARD ALL")).await?;
        db.clear_cached_statements().await?;
    }
    pool.close().await;
    Ok("its pool pings by an empty Sync; DISCARD ALL by hand".into())
}

async fn drain() -> Told {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(60))
        .connect_with(settings()?)
        .await?;
    let test = format!("{ME}-drain");
    let mut inside = pool.begin().await?;
    let sql = "INSERT INTO notes (test, body) VALUES ($1, 'x')";
    sqlx::query(sql).bind(&test).execute(&mut *inside).await?;
    tokio::task::spawn_blocking(|| ask("drain")).await??;
    sqlx::query(sql).bind(&test).execute(&mut *inside).await?;
    inside.commit().await?;
    tokio::task::spawn_blocking(|| ask("reopen")).await??;
    // The pool finds its session ended and opens another by itself.
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM notes WHERE test = $1").bind(&test).fetch_one(&pool).await?;
    check("kept", kept, 2)?;
    Ok("the pool reconnects by itself".into())
}

#[tokio::main]
async fn main() {
    macro_rules! run {
        ($($name:literal: $step:ident,)*) => { $(if wanted($name) { done($name, $step().await); })* };
    }
    tell("none", "pipeline", "the driver waits for each answer");
    tell("none", "cancel", "the driver has no cancel request");
    run! {
        "connect": connects, "simple": simple, "extended": extended, "binary": binary, "transaction": transaction,
        "batch": batch, "copy in": copy_in, "copy out": copy_out, "cursor": cursor, "listen": listen, "errors": errors,
        "large objects": large_objects, "types": types, "reset": reset, "drain": drain,
    }
}
