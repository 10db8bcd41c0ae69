// pgx 4, as the distribution packages it; lines as run.py has them.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

const me = "pgx"

var (
	everything = context.Background()
	input      = bufio.NewReader(os.Stdin)
)

func tell(kind, name, note string) {
	fmt.Printf("%s\t%s\t%s\n", kind, name, strings.Join(strings.Fields(note), " "))
}

func ask(what string) {
	tell("ask", what, "")
	_, _ = input.ReadString('\n')
}

// wrong carries a step's fault to its line.
type wrong struct{ error }

func must(err error) {
	if err != nil {
		panic(wrong{err})
	}
}

func check(what string, wanted, got interface{}) {
	if fmt.Sprintf("%#v", wanted) != fmt.Sprintf("%#v", got) {
		panic(wrong{fmt.Errorf("%s: wanted %#v, got %#v", what, wanted, got)})
	}
}

func fails(code string, err error) *pgconn.PgError {
	var told *pgconn.PgError
	if !errors.As(err, &told) {
		panic(wrong{fmt.Errorf("wanted %s, got %v", code, err)})
	}
	check(told.Message, code, told.Code)
	return told
}

func settings(password string) *pgx.ConnConfig {
	config, err := pgx.ParseConfig("")
	must(err)
	config.Host, config.Password = "localhost", password
	pem, err := os.ReadFile(os.Getenv("PGSSLROOTCERT"))
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config.TLSConfig = &tls.Config{RootCAs: roots, ServerName: "localhost"}
	return config
}

func connect() *pgx.Conn {
	db, err := pgx.ConnectConfig(everything, settings(os.Getenv("PGPASSWORD")))
	must(err)
	return db
}

func count(db *pgx.Conn, test string) (n int) {
	must(db.QueryRow(everything, "SELECT count(*) FROM notes WHERE test = $1", test).Scan(&n))
	return n
}

func run(db *pgx.Conn, sql string, values ...interface{}) error {
	_, err := db.Exec(everything, sql, values...)
	return err
}

func connects(db *pgx.Conn) string {
	_, secure := db.PgConn().Conn().(*tls.Conn)
	check("TLS", true, secure)
	_, err := pgx.ConnectConfig(everything, settings(os.Getenv("PGPASSWORD")+"x"))
	fails("28000", err)
	return ""
}

func simple(db *pgx.Conn) string {
	results, err := db.PgConn().Exec(everything, "SELECT 1; SELECT 'two'").ReadAll()
	must(err)
	check("two", "two", string(results[1].Rows[0][0]))
	_, err = db.PgConn().Exec(everything, " -- nothing").ReadAll()
	must(err)
	var got string
	must(db.QueryRow(everything, "SELECT $1::text", pgx.QuerySimpleProtocol(true), "ü'€").Scan(&got))
	check("value", "ü'€", got)
	return "PreferSimpleProtocol, too"
}

func extended(db *pgx.Conn) string {
	for n := 1; n <= 20; n++ {
		var name string
		must(db.QueryRow(everything, "SELECT name FROM items WHERE id = $1", n).Scan(&name))
		check("name", fmt.Sprint("item ", n), name)
	}
	var null *int
	must(db.QueryRow(everything, "SELECT $1::int", nil).Scan(&null))
	check("null", true, null == nil)
	// More than its cache keeps: it deallocates the old ones.
	for n := 0; n < 600; n++ {
		must(run(db, fmt.Sprintf("SELECT $1::int + %d", n), n))
	}
	return "its cache of statements, too"
}

func binary(db *pgx.Conn) string {
	var a int64
	var b float64
	var c []byte
	var d [16]byte
	var e []int32
	sql := "SELECT $1::int8, $2::float8, $3::bytea, $4::uuid, $5::int4[]"
	row := db.QueryRow(everything, sql, int64(1)<<62, 0.1, []byte{0, 255, 39, 92}, [16]byte{15: 7}, []int32{1, 2})
	must(row.Scan(&a, &b, &c, &d, &e))
	check("int8", int64(1)<<62, a)
	check("float8", 0.1, b)
	check("bytea", []byte{0, 255, 39, 92}, c)
	check("uuid", [16]byte{15: 7}, d)
	check("array", []int32{1, 2}, e)
	return ""
}

func transaction(db *pgx.Conn) string {
	outer, err := db.BeginTx(everything, pgx.TxOptions{IsoLevel: pgx.Serializable})
	must(err)
	must(run(db, "INSERT INTO notes (test) VALUES ($1)", me))
	inner, err := outer.Begin(everything)
	must(err)
	_, err = inner.Exec(everything, "INSERT INTO items (id, name) VALUES (1, 'again')")
	fails("23505", err)
	must(inner.Rollback(everything))
	must(outer.Commit(everything))
	check("rows", 1, count(db, me))
	return ""
}

func batch(db *pgx.Conn) string {
	var work pgx.Batch
	for n := 0; n < 1000; n++ {
		work.Queue("INSERT INTO notes (test, body) VALUES ($1, $2)", me+"-batch", fmt.Sprint(n))
	}
	must(db.SendBatch(everything, &work).Close())
	check("rows", 1000, count(db, me+"-batch"))
	return "one Sync for all"
}

func pipeline(db *pgx.Conn) string {
	var work pgx.Batch
	work.Queue("INSERT INTO notes (test) VALUES ($1)", me+"-pipeline")
	work.Queue("SELECT 1 / ($1::int - 1)", 1)
	work.Queue("INSERT INTO notes (test) VALUES ($1)", me+"-pipeline")
	results := db.SendBatch(everything, &work)
	_, err := results.Exec()
	must(err)
	_, err = results.Exec()
	fails("22012", err)
	_ = results.Close()
	check("rows", 0, count(db, me+"-pipeline"))
	var refused pgx.Batch
	refused.Queue("INSERT INTO notes (test) VALUES ($1)", me+"-pipeline")
	refused.Queue("DELETE FROM notes WHERE $1", true)
	fails("42501", db.SendBatch(everything, &refused).Close())
	check("rows", 0, count(db, me+"-pipeline"))
	return "as batches"
}

func copyIn(db *pgx.Conn) string {
	var rows [][]interface{}
	for n := 0; n < 3000; n++ {
		rows = append(rows, []interface{}{me + "-copy", fmt.Sprint("row ", n)})
	}
	copied, err := db.CopyFrom(everything, pgx.Identifier{"notes"}, []string{"test", "body"}, pgx.CopyFromRows(rows))
	must(err)
	check("copied", int64(3000), copied)
	bad := strings.NewReader(strings.Repeat("no number\tx\n", 5000))
	_, err = db.PgConn().CopyFrom(everything, bad, "COPY items (id, name) FROM STDIN")
	fails("22P02", err)
	check("rows", 3000, count(db, me+"-copy"))
	return ""
}

func copyOut(db *pgx.Conn) string {
	var out bytes.Buffer
	_, err := db.PgConn().CopyTo(everything, &out, "COPY (SELECT id FROM items) TO STDOUT")
	must(err)
	check("rows", 1000, bytes.Count(out.Bytes(), []byte{'\n'}))
	return ""
}

func cursor(db *pgx.Conn) string {
	inside, err := db.Begin(everything)
	must(err)
	must(run(db, "DECLARE c SCROLL CURSOR FOR SELECT id FROM items ORDER BY id"))
	var last int
	must(inside.QueryRow(everything, "FETCH LAST FROM c").Scan(&last))
	check("last", 1000, last)
	must(inside.Commit(everything))
	limited := db.PgConn().ExecParams(everything, "SELECT id FROM items", nil, nil, nil, nil)
	limited.NextRow()
	_, err = limited.Close()
	must(err)
	return "DECLARE by hand; the driver knows no row limit"
}

func listen(db *pgx.Conn) string {
	other := connect()
	defer other.Close(everything)
	must(run(db, "LISTEN pgx"))
	must(run(other, "SELECT pg_notify('pgx', $1)", "hello"))
	patience, end := context.WithTimeout(everything, time.Minute)
	defer end()
	heard, err := db.WaitForNotification(patience)
	must(err)
	check("payload", "hello", heard.Payload)
	must(run(db, "UNLISTEN *"))
	return ""
}

func cancels(db *pgx.Conn) string {
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(300 * time.Millisecond):
				_ = db.PgConn().CancelRequest(everything)
			}
		}
	}()
	told := run(db, "SELECT pg_sleep(600)")
	close(stop)
	fails("57014", told)
	other := connect()
	defer other.Close(everything)
	check("other", 0, count(other, "nothing"))
	return ""
}

func errs(db *pgx.Conn) string {
	told := fails("23505", run(db, "INSERT INTO items (id, name) VALUES (1, $1)", "x"))
	check("fields", "shop items items_pkey", told.SchemaName+" "+told.TableName+" "+told.ConstraintName)
	check("detail", true, strings.Contains(told.Detail, "already exists"))
	check("position", int32(8), fails("42703", run(db, "SELECT nothing")).Position)
	check("next step", true, strings.Contains(fails("42501", run(db, "DELETE FROM notes WHERE $1", true)).Message, "Next:"))
	inside, err := db.Begin(everything)
	must(err)
	fails("42501", run(db, "DELETE FROM notes WHERE $1", true))
	fails("25P02", run(db, "SELECT 1"))
	must(inside.Rollback(everything))
	check("alive", 0, count(db, "nothing"))
	return ""
}

func largeObjects(db *pgx.Conn) string {
	var oid uint32
	var got []byte
	must(db.QueryRow(everything, "SELECT lo_from_bytea(0, $1)", []byte("abcabcabc")).Scan(&oid))
	must(run(db, "SELECT lo_put($1, 3, $2)", oid, []byte("XYZ")))
	must(db.QueryRow(everything, "SELECT lo_get($1, 3, 6)", oid).Scan(&got))
	check("read", "XYZabc", string(got))
	must(run(db, "SELECT lo_unlink($1)", oid))
	inside, err := db.Begin(everything)
	must(err)
	defer func() { _ = inside.Rollback(everything) }()
	objects := inside.LargeObjects()
	made, err := objects.Create(everything, 0)
	must(err)
	object, err := objects.Open(everything, made, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
	must(err)
	_, err = object.Write([]byte("whole"))
	must(err)
	must(objects.Unlink(everything, made))
	return "its own API calls SQL functions, and passes"
}

func types(db *pgx.Conn) string {
	var mood string
	must(db.QueryRow(everything, "SELECT m FROM typed WHERE m = $1", "ok").Scan(&mood))
	check("enum", "ok", mood)
	var a int
	var b string
	must(db.QueryRow(everything, "SELECT (p).a, (p).b FROM typed").Scan(&a, &b))
	check("composite", "7 seven", fmt.Sprint(a, " ", b))
	return ""
}

func reset(db *pgx.Conn) string {
	config, err := pgxpool.ParseConfig("")
	must(err)
	config.ConnConfig, config.MaxConns = settings(os.Getenv("PGPASSWORD")), 1
	pool, err := pgxpool.ConnectConfig(everything, config)
	must(err)
	defer pool.Close()
	for n := 0; n < 3; n++ {
		must(pool.Ping(everything))
	}
	must(run(db, "DISCARD ALL"))
	return "its pool sends nothing; DISCARD ALL by hand"
}

func drain(db *pgx.Conn) string {
	inside, err := db.Begin(everything)
	must(err)
	must(run(db, "INSERT INTO notes (test, body) VALUES ($1, 'before')", me+"-drain"))
	ask("drain")
	must(run(db, "INSERT INTO notes (test, body) VALUES ($1, 'while')", me+"-drain"))
	must(inside.Commit(everything))
	var told error
	for told == nil {
		told = run(db, "SELECT 1")
	}
	ask("reopen")
	again := connect()
	defer again.Close(everything)
	check("kept", 2, count(again, me+"-drain"))
	return "the old session says " + told.Error()
}

// step opens a session, and tells how its work ended.
func step(name string, work func(*pgx.Conn) string) {
	defer func() {
		if fault := recover(); fault != nil {
			tell("no", name, fmt.Sprint(fault))
		}
	}()
	db := connect()
	defer db.Close(everything)
	tell("yes", name, work(db))
}

func main() {
	steps := []struct {
		name string
		work func(*pgx.Conn) string
	}{
		{"connect", connects}, {"simple", simple}, {"extended", extended}, {"binary", binary}, {"transaction", transaction},
		{"batch", batch}, {"pipeline", pipeline}, {"copy in", copyIn}, {"copy out", copyOut}, {"cursor", cursor},
		{"listen", listen}, {"cancel", cancels}, {"errors", errs}, {"large objects", largeObjects}, {"types", types},
		{"reset", reset}, {"drain", drain},
	}
	for _, one := range steps {
		if len(os.Args) < 2 || strings.Contains(strings.Join(os.Args[1:], ","), one.name) {
			step(one.name, one.work)
		}
	}
}
