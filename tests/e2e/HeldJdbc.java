import java.sql.*;
import java.util.*;

/** A statement that is held, by JDBC's driver: prints what came of it, and whether the connection still works. */
public class HeldJdbc {
    public static void main(String[] arguments) throws Exception {
        String how = arguments[0];
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        p.setProperty("password", System.getenv("PGPASSWORD"));
        p.setProperty("sslmode", "verify-full");
        p.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        // A socket that is silent for so long is closed by the driver: the notices keep it.
        p.setProperty("socketTimeout", "3");
        if (how.equals("simple")) {
            p.setProperty("preferQueryMode", "simple");
        }
        try (Connection c = DriverManager.getConnection(
                "jdbc:postgresql://localhost:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), p)) {
            // The driver sends BEGIN in the same batch as the first statement.
            c.setAutoCommit(!how.equals("transaction"));
            try (PreparedStatement s = c.prepareStatement("DELETE FROM notes WHERE test = ?")) {
                s.setString(1, arguments[1]);
                if (how.equals("timeout")) {
                    s.setQueryTimeout(1);
                }
                System.out.println("deleted " + s.executeUpdate());
            } catch (SQLException e) {
                System.out.println(e.getSQLState() + " " + e.getMessage().lines().findFirst().get());
                if (!c.getAutoCommit()) {
                    c.rollback();
                }
            }
            try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT 40 + 2")) {
                r.next();
                System.out.println("still " + r.getInt(1));
            }
            if (!c.getAutoCommit()) {
                c.commit();
            }
        }
    }
}
