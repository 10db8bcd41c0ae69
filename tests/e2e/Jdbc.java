import java.sql.*;
import java.util.*;

/** What JDBC's driver does through the gateway; prints one line a step, exits 1 at the first that is wrong. */
public class Jdbc {
    static Connection connect(Properties more) throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        p.setProperty("password", System.getenv("PGPASSWORD"));
        p.setProperty("sslmode", "verify-full");
        p.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        p.setProperty("prepareThreshold", "2");
        p.putAll(more);
        return DriverManager.getConnection(
            "jdbc:postgresql://localhost:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), p);
    }

    static void check(String what, Object wanted, Object got) {
        if (!Objects.equals(wanted, got)) {
            System.out.println("WRONG " + what + ": wanted " + wanted + ", got " + got);
            System.exit(1);
        }
        System.out.println("ok " + what);
    }

    interface Step { void run() throws SQLException; }

    static String failure(Step step) {
        try { step.run(); return null; } catch (SQLException e) { return e.getSQLState(); }
    }

    public static void main(String[] arguments) throws Exception {
        try (Connection c = connect(new Properties())) {
            prepared(c);
            types(c);
            batches(c);
            cursors(c);
            errors(c);
            metadata(c);
            cancels(c);
            copies(c);
        }
        Properties simple = new Properties();
        simple.setProperty("preferQueryMode", "simple");
        try (Connection c = connect(simple)) {
            prepared(c);
            errors(c);
        }
        Properties binary = new Properties();
        binary.setProperty("prepareThreshold", "-1");
        try (Connection c = connect(binary)) {
            prepared(c);
            types(c);
        }
        System.out.println("all done");
    }

    static void prepared(Connection c) throws SQLException {
        try (PreparedStatement s = c.prepareStatement("SELECT name, price FROM items WHERE id = ?")) {
            for (int n = 1; n <= 20; n++) {
                s.setInt(1, n);
                try (ResultSet r = s.executeQuery()) {
                    r.next();
                    if (!r.getString(1).equals("item " + n)) check("prepared " + n, "item " + n, r.getString(1));
                }
            }
        }
        check("prepared", 1, 1);
    }

    static void types(Connection c) throws SQLException {
        String sql = "SELECT ?::int8, ?::text, ?::bytea, ?::timestamptz, ?::float8, ?::numeric, ?::bool";
        try (PreparedStatement s = c.prepareStatement(sql)) {
            for (int n = 0; n < 6; n++) {
                s.setLong(1, Long.MAX_VALUE);
                s.setString(2, "ü€");
                s.setBytes(3, new byte[] {0, -1, 39, 92});
                s.setTimestamp(4, new Timestamp(1_700_000_000_000L));
                s.setDouble(5, 0.1);
                s.setBigDecimal(6, new java.math.BigDecimal("12345678901234567890.12"));
                s.setBoolean(7, true);
                try (ResultSet r = s.executeQuery()) {
                    r.next();
                    if (n < 5) continue;
                    check("int8", Long.MAX_VALUE, r.getLong(1));
                    check("text", "ü€", r.getString(2));
                    check("bytea", "[0, -1, 39, 92]", Arrays.toString(r.getBytes(3)));
                    check("timestamp", 1_700_000_000_000L, r.getTimestamp(4).getTime());
                    check("double", 0.1, r.getDouble(5));
                    check("numeric", "12345678901234567890.12", r.getBigDecimal(6).toString());
                    check("bool", true, r.getBoolean(7));
                }
            }
        }
    }

    static void batches(Connection c) throws SQLException {
        c.setAutoCommit(false);
        try (PreparedStatement s = c.prepareStatement("INSERT INTO notes (test, body) VALUES (?, ?)")) {
            for (int n = 0; n < 1000; n++) {
                s.setString(1, "jdbc");
                s.setString(2, "row " + n);
                s.addBatch();
            }
            check("batch", 1000, Arrays.stream(s.executeBatch()).sum());
        }
        c.commit();
        try (PreparedStatement s = c.prepareStatement("INSERT INTO notes (test) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
            s.setString(1, "jdbc-keys");
            s.executeUpdate();
            check("generated keys", true, s.getGeneratedKeys().next());
        }
        c.rollback();
        c.setAutoCommit(true);
    }

    static void cursors(Connection c) throws SQLException {
        c.setAutoCommit(false);
        try (Statement s = c.createStatement()) {
            s.setFetchSize(7);
            int count = 0;
            try (ResultSet r = s.executeQuery("SELECT id FROM items ORDER BY id")) {
                while (r.next()) if (r.getInt(1) == count + 1) count++;
            }
            check("fetch size", 1000, count);
        }
        c.commit();
        c.setAutoCommit(true);
    }

    static void errors(Connection c) throws SQLException {
        try (Statement s = c.createStatement()) {
            check("refused", "42501", failure(() -> s.executeUpdate("DELETE FROM notes")));
            check("refused drop", "42501", failure(() -> s.executeUpdate("DROP TABLE notes")));
            check("server's error", "22012", failure(() -> s.executeQuery("SELECT 1 / (random() * 0)::int")));
        }
        c.setAutoCommit(false);
        try (PreparedStatement s = c.prepareStatement("SELECT count(*) FROM items WHERE id < ?")) {
            s.setInt(1, 5);
            s.executeQuery();
            Savepoint point = c.setSavepoint();
            try (Statement other = c.createStatement()) {
                check("refused inside", "42501", failure(() -> other.executeUpdate("UPDATE notes SET body = 'x'")));
                check("failed transaction", "25P02", failure(() -> other.executeQuery("SELECT 1")));
            }
            c.rollback(point);
            try (ResultSet r = s.executeQuery()) {
                r.next();
                check("after the savepoint", 4, r.getInt(1));
            }
        }
        c.rollback();
        c.setAutoCommit(true);
        try (Statement s = c.createStatement()) {
            s.addBatch("INSERT INTO notes (test) VALUES ('jdbc-refused-batch')");
            s.addBatch("DELETE FROM notes WHERE true");
            c.setAutoCommit(false);
            check("refused batch", "42501", failure(() -> { try { s.executeBatch(); } catch (BatchUpdateException e) { throw new SQLException("", e.getSQLState()); } }));
            c.rollback();
            c.setAutoCommit(true);
            try (ResultSet r = s.executeQuery("SELECT count(*) FROM notes WHERE test = 'jdbc-refused-batch'")) {
                r.next();
                check("nothing of it stays", 0, r.getInt(1));
            }
        }
    }

    static void metadata(Connection c) throws SQLException {
        DatabaseMetaData m = c.getMetaData();
        int columns = 0;
        try (ResultSet r = m.getColumns(null, "shop", "items", "%")) { while (r.next()) columns++; }
        check("columns", 3, columns);
        try (ResultSet r = m.getPrimaryKeys(null, "shop", "items")) { check("primary key", true, r.next()); }
        try (ResultSet r = m.getTables(null, "shop", "%", new String[] {"TABLE"})) { check("tables", true, r.next()); }
        check("valid", true, c.isValid(30));
    }

    static void cancels(Connection c) throws Exception {
        try (Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            check("query timeout", "57014", failure(() -> s.executeQuery("SELECT pg_sleep(600)")));
            s.setQueryTimeout(0);
            Thread canceller = new Thread(() -> {
                try {
                    // It counts once the statement runs; before that nothing is there to cancel.
                    for (int n = 0; n < 200; n++) { Thread.sleep(100); s.cancel(); }
                } catch (SQLException | InterruptedException e) { }
            });
            canceller.start();
            check("cancel", "57014", failure(() -> s.executeQuery("SELECT pg_sleep(600)")));
            canceller.interrupt();
            canceller.join();
        }
        for (int n = 0; ; n++) {
            // A cancel on its way may still hit one statement.
            try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT 1")) {
                r.next();
                check("after the cancel", 1, r.getInt(1));
                return;
            } catch (SQLException e) {
                if (n > 5) throw e;
            }
        }
    }

    static void copies(Connection c) throws Exception {
        var copy = c.unwrap(org.postgresql.PGConnection.class).getCopyAPI();
        var rows = new StringBuilder();
        for (int n = 0; n < 3000; n++) rows.append("jdbc-copy\trow ").append(n).append('\n');
        check("copy in", 3000L, copy.copyIn("COPY notes (test, body) FROM STDIN", new java.io.StringReader(rows.toString())));
        var out = new java.io.StringWriter();
        copy.copyOut("COPY (SELECT test, body FROM notes WHERE test = 'jdbc-copy' ORDER BY id) TO STDOUT", out);
        check("copy out", rows.toString(), out.toString());
    }
}
