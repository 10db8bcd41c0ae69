import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.util.PSQLException;

/** pgjdbc; lines as run.py has them. Its wider test is tests/e2e/Jdbc.java. */
public class Pgjdbc {
    static final String ME = "pgjdbc";
    static final BufferedReader IN = new BufferedReader(new InputStreamReader(System.in));

    interface Step { String run() throws Exception; }
    interface Act { void run() throws Exception; }

    static void tell(String kind, String name, String note) {
        System.out.println(kind + "\t" + name + "\t" + String.valueOf(note).replaceAll("\\s+", " "));
        System.out.flush();
    }

    static void ask(String what) throws Exception {
        tell("ask", what, "");
        IN.readLine();
    }

    static Connection connect(String... more) throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        p.setProperty("password", System.getenv("PGPASSWORD"));
        p.setProperty("sslmode", "verify-full");
        p.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        for (int n = 0; n < more.length; n += 2) p.setProperty(more[n], more[n + 1]);
        return DriverManager.getConnection(
            "jdbc:postgresql://localhost:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), p);
    }

    static void check(String what, Object wanted, Object got) {
        if (!Objects.equals(wanted, got)) throw new AssertionError(what + ": wanted " + wanted + ", got " + got);
    }

    static SQLException fails(String state, Act act) throws Exception {
        try {
            act.run();
        } catch (SQLException e) {
            check("state of " + e.getMessage(), state, e.getSQLState());
            return e;
        }
        throw new AssertionError(state + " did not come");
    }

    static Object one(Connection c, String sql, Object... values) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(sql)) {
            for (int n = 0; n < values.length; n++) s.setObject(n + 1, values[n]);
            if (!s.execute()) return s.getUpdateCount();
            try (ResultSet r = s.getResultSet()) { return r.next() ? r.getObject(1) : null; }
        }
    }

    static long count(Connection c, String test) throws SQLException {
        return (Long) one(c, "SELECT count(*) FROM notes WHERE test = ?", test);
    }

    static String connects() throws Exception {
        try (Connection c = connect()) { check("one", 1, one(c, "SELECT 1")); }
        fails("28000", () -> connect("password", System.getenv("PGPASSWORD") + "x"));
        try (Connection c = connect("ApplicationName", "x", "defaultRowFetchSize", "5", "readOnly", "true", "assumeMinServerVersion", "9.4")) {
            check("name", true, String.valueOf(one(c, "SHOW application_name")).startsWith("x"));
        }
        return DriverManager.getDriver("jdbc:postgresql:").getMajorVersion() + "." + DriverManager.getDriver("jdbc:postgresql:").getMinorVersion();
    }

    static String simple() throws Exception {
        try (Connection c = connect("preferQueryMode", "simple"); Statement s = c.createStatement()) {
            s.execute("SELECT 1; SELECT 'two'");
            check("second", true, s.getMoreResults());
            s.getResultSet().next();
            check("two", "two", s.getResultSet().getString(1));
            check("value", "ü'€", one(c, "SELECT ?::text", "ü'€"));
            check("empty", false, s.execute(" -- nothing"));
        }
        return null;
    }

    static String extended() throws Exception {
        try (Connection c = connect("prepareThreshold", "2");
             PreparedStatement s = c.prepareStatement("SELECT name FROM items WHERE id = ?")) {
            for (int n = 1; n <= 20; n++) {
                s.setInt(1, n);
                try (ResultSet r = s.executeQuery()) { r.next(); check("name", "item " + n, r.getString(1)); }
            }
            check("null", null, one(c, "SELECT ?::int", new Object[] {null}));
        }
        return null;
    }

    static String binary() throws Exception {
        try (Connection c = connect("prepareThreshold", "-1");
             PreparedStatement s = c.prepareStatement("SELECT ?::int8, ?::float8, ?::bytea, ?::uuid, ?::numeric, ?::timestamptz, ?::int[]")) {
            s.setLong(1, Long.MAX_VALUE);
            s.setDouble(2, 0.1);
            s.setBytes(3, new byte[] {0, -1, 39, 92});
            s.setObject(4, new UUID(0, 7));
            s.setBigDecimal(5, new java.math.BigDecimal("12345678901234567890.12"));
            s.setTimestamp(6, new Timestamp(1_700_000_000_000L));
            s.setArray(7, c.createArrayOf("int4", new Object[] {1, null, 3}));
            try (ResultSet r = s.executeQuery()) {
                r.next();
                check("int8", Long.MAX_VALUE, r.getLong(1));
                check("float8", 0.1, r.getDouble(2));
                check("bytea", "[0, -1, 39, 92]", Arrays.toString(r.getBytes(3)));
                check("uuid", new UUID(0, 7), r.getObject(4));
                check("numeric", "12345678901234567890.12", r.getBigDecimal(5).toString());
                check("timestamp", 1_700_000_000_000L, r.getTimestamp(6).getTime());
                check("array", "[1, null, 3]", Arrays.toString((Object[]) r.getArray(7).getArray()));
            }
        }
        return null;
    }

    static String transaction() throws Exception {
        try (Connection c = connect("autosave", "always")) {
            c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            c.setAutoCommit(false);
            one(c, "INSERT INTO notes (test) VALUES (?)", ME);
            // autosave: a savepoint before each statement, rolled back to by the driver itself.
            fails("23505", () -> one(c, "INSERT INTO items (id, name) VALUES (1, 'again')"));
            Savepoint point = c.setSavepoint("by_hand");
            one(c, "INSERT INTO notes (test) VALUES (?)", ME);
            c.rollback(point);
            c.releaseSavepoint(point);
            c.commit();
            check("rows", 1L, count(c, ME));
            c.rollback();
            c.setReadOnly(true);
            fails("25006", () -> one(c, "INSERT INTO notes (test) VALUES (?)", ME));
            c.rollback();
        }
        return "autosave, too";
    }

    static String batch() throws Exception {
        for (String rewrite : new String[] {"false", "true"}) {
            try (Connection c = connect("reWriteBatchedInserts", rewrite);
                 PreparedStatement s = c.prepareStatement("INSERT INTO notes (test, body) VALUES (?, ?)")) {
                for (int n = 0; n < 1000; n++) {
                    s.setString(1, ME + "-batch-" + rewrite);
                    s.setString(2, "row " + n);
                    s.addBatch();
                }
                s.executeBatch();
                check("rows", 1000L, count(c, ME + "-batch-" + rewrite));
            }
        }
        return "reWriteBatchedInserts, too";
    }

    static String pipeline() throws Exception {
        // A batch stands in one pipeline: all is sent before the first answer is read.
        try (Connection c = connect(); Statement s = c.createStatement()) {
            c.setAutoCommit(false);
            s.addBatch("INSERT INTO notes (test) VALUES ('pgjdbc-pipeline')");
            s.addBatch("INSERT INTO items (id, name) VALUES (1, 'again')");
            s.addBatch("INSERT INTO notes (test) VALUES ('pgjdbc-pipeline')");
            try {
                s.executeBatch();
                throw new AssertionError("23505 did not come");
            } catch (BatchUpdateException e) {
                check("state", "23505", e.getSQLState());
            }
            c.rollback();
            check("rows", 0L, count(c, "pgjdbc-pipeline"));
        }
        return "as batches";
    }

    static String copyIn() throws Exception {
        try (Connection c = connect()) {
            var copy = c.unwrap(PGConnection.class).getCopyAPI();
            var rows = new StringBuilder();
            for (int n = 0; n < 3000; n++) rows.append(ME + "-copy\trow ").append(n).append('\n');
            check("copied", 3000L, copy.copyIn("COPY notes (test, body) FROM STDIN", new StringReader(rows.toString())));
            var given = copy.copyIn("COPY notes (test, body) FROM STDIN");
            given.writeToCopy("x\ty\n".getBytes(), 0, 4);
            given.cancelCopy();
            fails("22P02", () -> copy.copyIn("COPY items (id, name) FROM STDIN", new StringReader("no number\tx\n")));
            check("rows", 3000L, count(c, ME + "-copy"));
        }
        return null;
    }

    static String copyOut() throws Exception {
        try (Connection c = connect()) {
            var out = new StringWriter();
            check("rows", 1000L, c.unwrap(PGConnection.class).getCopyAPI().copyOut("COPY (SELECT id FROM items) TO STDOUT", out));
            check("lines", 1000, out.toString().split("\n").length);
        }
        return null;
    }

    static String cursor() throws Exception {
        try (Connection c = connect()) {
            c.setAutoCommit(false);
            try (Statement s = c.createStatement()) {
                s.setFetchSize(7);
                int seen = 0;
                try (ResultSet r = s.executeQuery("SELECT id FROM items ORDER BY id")) { while (r.next()) seen++; }
                check("rows", 1000, seen);
                try (ResultSet r = s.executeQuery("SELECT id FROM items ORDER BY id")) { r.next(); }
                check("behind it", 0L, count(c, "nothing"));
            }
            c.commit();
        }
        return "setFetchSize: portals with a row limit";
    }

    static String listen() throws Exception {
        try (Connection c = connect(); Connection other = connect()) {
            one(c, "LISTEN pgjdbc");
            one(other, "SELECT pg_notify('pgjdbc', ?)::text", "hello");
            var heard = c.unwrap(PGConnection.class).getNotifications(30_000);
            check("payload", "hello", heard[0].getParameter());
            one(c, "UNLISTEN *");
        }
        return null;
    }

    static String cancel() throws Exception {
        try (Connection c = connect(); Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            fails("57014", () -> s.executeQuery("SELECT pg_sleep(600)"));
            check("behind it", 0L, count(c, "nothing"));
        }
        return "setQueryTimeout";
    }

    static String errors() throws Exception {
        try (Connection c = connect()) {
            var told = ((PSQLException) fails("23505", () -> one(c, "INSERT INTO items (id, name) VALUES (1, ?)", "x"))).getServerErrorMessage();
            check("fields", List.of("shop", "items", "items_pkey"), List.of(told.getSchema(), told.getTable(), told.getConstraint()));
            check("detail", true, told.getDetail().contains("already exists"));
            var where = ((PSQLException) fails("42703", () -> one(c, "SELECT nothing"))).getServerErrorMessage();
            check("position", 8, where.getPosition());
            check("next step", true, fails("42501", () -> one(c, "DELETE FROM notes WHERE ?", true)).getMessage().contains("Next:"));
            c.setAutoCommit(false);
            fails("42501", () -> one(c, "DELETE FROM notes WHERE ?", true));
            fails("25P02", () -> one(c, "SELECT 1"));
            c.rollback();
            check("alive", 0L, count(c, "nothing"));
        }
        return null;
    }

    static String largeObjects() throws Exception {
        try (Connection c = connect()) {
            c.setAutoCommit(false);
            long oid = (Long) one(c, "SELECT lo_from_bytea(0, ?)", new Object[] {"abcabcabc".getBytes()});
            one(c, "SELECT lo_put(?::oid, 3, ?)::text", oid, "XYZ".getBytes());
            check("read", "XYZabc", new String((byte[]) one(c, "SELECT lo_get(?::oid, 3, 6)", oid)));
            check("unlink", 1, one(c, "SELECT lo_unlink(?::oid)", oid));
            c.commit();
            String refused;
            try {
                c.unwrap(PGConnection.class).getLargeObjectAPI().createLO();
                throw new AssertionError("the large object API passed");
            } catch (SQLException e) {
                refused = e.getMessage();
            }
            check("the refusal names the way: " + refused, true, refused.contains("lo_from_bytea"));
            c.rollback();
        }
        return "by SQL functions; LargeObjectManager is refused and told so";
    }

    static String types() throws Exception {
        try (Connection c = connect()) {
            check("enum", "ok", one(c, "SELECT m FROM typed WHERE m = ?::mood", "ok"));
            check("composite", "(7,seven)", String.valueOf(one(c, "SELECT p FROM typed")));
            DatabaseMetaData m = c.getMetaData();
            int columns = 0;
            try (ResultSet r = m.getColumns(null, "shop", "items", "%")) { while (r.next()) columns++; }
            check("columns", 3, columns);
            m.getPrimaryKeys(null, "shop", "items").close();
            m.getIndexInfo(null, "shop", "items", false, true).close();
            m.getImportedKeys(null, "shop", "items").close();
            m.getTypeInfo().close();
            m.getFunctions(null, "shop", "%").close();
            m.getSchemas().close();
            m.getTables(null, "shop", "%", null).close();
        }
        return "DatabaseMetaData, too";
    }

    static String reset() throws Exception {
        try (Connection c = connect()) {
            one(c, "SELECT 1");
            one(c, "DISCARD ALL");
            one(c, "DEALLOCATE ALL");
            check("valid", true, c.isValid(30));
            check("behind it", 0L, count(c, "nothing"));
        }
        return null;
    }

    static String drain() throws Exception {
        try (Connection c = connect()) {
            c.setAutoCommit(false);
            one(c, "INSERT INTO notes (test, body) VALUES (?, 'before')", ME + "-drain");
            ask("drain");
            one(c, "INSERT INTO notes (test, body) VALUES (?, 'while')", ME + "-drain");
            c.commit();
            String told = null;
            while (told == null) {
                try { one(c, "SELECT 1"); } catch (SQLException e) { told = e.getSQLState() + " " + e.getMessage(); }
            }
            ask("reopen");
            try (Connection again = connect()) { check("kept", 2L, count(again, ME + "-drain")); }
            return "the old session says " + told;
        }
    }

    public static void main(String[] only) {
        Map<String, Step> steps = new LinkedHashMap<>();
        steps.put("connect", Pgjdbc::connects);
        steps.put("simple", Pgjdbc::simple);
        steps.put("extended", Pgjdbc::extended);
        steps.put("binary", Pgjdbc::binary);
        steps.put("transaction", Pgjdbc::transaction);
        steps.put("batch", Pgjdbc::batch);
        steps.put("pipeline", Pgjdbc::pipeline);
        steps.put("copy in", Pgjdbc::copyIn);
        steps.put("copy out", Pgjdbc::copyOut);
        steps.put("cursor", Pgjdbc::cursor);
        steps.put("listen", Pgjdbc::listen);
        steps.put("cancel", Pgjdbc::cancel);
        steps.put("errors", Pgjdbc::errors);
        steps.put("large objects", Pgjdbc::largeObjects);
        steps.put("types", Pgjdbc::types);
        steps.put("reset", Pgjdbc::reset);
        steps.put("drain", Pgjdbc::drain);
        steps.forEach((name, step) -> {
            if (only.length > 0 && !Arrays.asList(only).contains(name)) return;
            try {
                String note = step.run();
                tell("yes", name, note == null ? "" : note);
            } catch (Throwable e) {
                tell("no", name, e.getClass().getSimpleName() + ": " + e.getMessage());
            }
        });
    }
}
