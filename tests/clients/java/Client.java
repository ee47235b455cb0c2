// pgjdbc's side of the conversation, and of the ends. See ../README.md.

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.util.Properties;
import java.util.Timer;
import java.util.TimerTask;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyOut;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public class Client {
    private static final BufferedReader INPUT =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    private static final String SLOW =
            "COPY (SELECT repeat('x', 10000), pg_sleep(0.01) FROM generate_series(1, 100000)) TO STDOUT";

    public static void main(String[] arguments) throws Exception {
        System.setOut(new java.io.PrintStream(System.out, true, StandardCharsets.UTF_8));
        Connection connection = connect();
        if (arguments[0].equals("converse")) {
            converse(connection);
            connection.close();
            return;
        }
        try {
            end(connection, arguments[0]);
        } catch (SQLException error) {
            told(error);
        }
        System.exit(0);
    }

    private static Connection connect() throws Exception {
        say("loaded");
        Properties options = new Properties();
        options.setProperty("user", System.getenv("PGUSER"));
        options.setProperty("password", INPUT.readLine());
        options.setProperty("sslmode", System.getenv("PGSSLMODE"));
        options.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        options.setProperty("sslNegotiation", System.getenv().getOrDefault("PGSSLNEGOTIATION", "postgres"));
        options.setProperty("prepareThreshold", "2"); // a named statement from the second use on
        String where = System.getenv("PGHOST") + ":" + System.getenv("PGPORT");
        String database = System.getenv("PGDATABASE").replace("/", "%2F");
        return DriverManager.getConnection("jdbc:postgresql://" + where + "/" + database, options);
    }

    private static void say(String... fields) {
        System.out.println(IntStream.range(0, fields.length)
                .mapToObj(index -> fields[index] == null ? "" : fields[index])
                .map(field -> field.replace("\n", " / ").replace("\t", " "))
                .collect(Collectors.joining("\t")));
    }

    private static void told(SQLException error) {
        ServerErrorMessage server = error instanceof PSQLException one ? one.getServerErrorMessage() : null;
        String detail = server == null ? "" : server.getDetail();
        String hint = server == null ? "" : server.getHint();
        say("said", error.getClass().getSimpleName(), error.getSQLState(), error.getMessage(), detail, hint);
    }

    private static String one(Connection connection, String text) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(text)) {
            rows.next();
            return rows.getString(1);
        }
    }

    private static String count(Connection connection) throws SQLException {
        return one(connection, "SELECT count(*) FROM t");
    }

    private static void converse(Connection connection) throws Exception {
        say("simple", one(connection, "SELECT 'simple'"));
        say("values", values(connection));
        try (var statement = connection.createStatement()) {
            statement.execute("CREATE TABLE t (n int PRIMARY KEY, x text)");
        }
        try (var insert = connection.prepareStatement("INSERT INTO t VALUES (?, ?)")) {
            for (int number = 1; number <= 3; number++) {
                insert.setInt(1, number);
                insert.setString(2, "x");
                insert.execute();
            }
        }
        say("prepared", count(connection));
        say("error", fail(connection), count(connection));
        try (var insert = connection.prepareStatement("INSERT INTO t VALUES (?)")) {
            for (int number = 100; number < 120; number++) {
                insert.setInt(1, number);
                insert.addBatch();
            }
            insert.executeBatch();
        }
        say("batch", count(connection));
        say("copy", String.valueOf(copy(connection)));
        say("notify", hearMyself(connection));
        say("cancel", cancel(connection));
        long size = 0;
        try (Statement statement = connection.createStatement()) {
            ResultSet rows = statement.executeQuery("SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
            while (rows.next()) {
                size += rows.getString(1).length();
            }
        }
        say("big", String.valueOf(size));
    }

    private static String values(Connection connection) throws SQLException {
        String text = "SELECT concat_ws('|', ?::int8, ?::text, ?::float8, ?::bool, ?::bytea, coalesce(?::text, 'NULL'))";
        try (var statement = connection.prepareStatement(text)) {
            statement.setLong(1, 41);
            statement.setString(2, "it's Zoë\\;");
            statement.setDouble(3, 1.5);
            statement.setBoolean(4, true);
            statement.setBytes(5, new byte[] {0, (byte) 255});
            statement.setNull(6, Types.VARCHAR);
            ResultSet rows = statement.executeQuery();
            rows.next();
            return rows.getString(1);
        }
    }

    private static String fail(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (var insert = connection.prepareStatement("INSERT INTO t VALUES (?)")) {
            for (int number : new int[] {4, 1}) {
                insert.setInt(1, number);
                insert.execute();
            }
        } catch (SQLException error) {
            return error.getSQLState();
        } finally {
            connection.rollback();
            connection.setAutoCommit(true);
        }
        return "";
    }

    private static int copy(Connection connection) throws SQLException, IOException {
        var copies = connection.unwrap(PGConnection.class).getCopyAPI();
        String rows = IntStream.range(1000, 2000).mapToObj(number -> number + "\n").collect(Collectors.joining());
        copies.copyIn("COPY t (n) FROM STDIN", new ByteArrayInputStream(rows.getBytes(StandardCharsets.UTF_8)));
        var out = new ByteArrayOutputStream();
        copies.copyOut("COPY (SELECT n FROM t WHERE n >= 1000 ORDER BY n) TO STDOUT", out);
        return out.size();
    }

    private static String hearMyself(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("LISTEN heard");
            statement.execute("NOTIFY heard, 'by me'");
        }
        return connection.unwrap(PGConnection.class).getNotifications(10_000)[0].getParameter();
    }

    private static String cancel(Connection connection) throws SQLException {
        Timer timer = new Timer(true);
        try (Statement statement = connection.createStatement()) {
            timer.schedule(new TimerTask() {
                @Override
                public void run() {
                    try {
                        statement.cancel();
                    } catch (SQLException error) {
                        say("cancel", error.getMessage());
                    }
                }
            }, 300);
            statement.execute("SELECT pg_sleep(60)");
        } catch (SQLException error) {
            return error.getSQLState();
        }
        return "";
    }

    private static void end(Connection connection, String state) throws Exception {
        var copies = connection.unwrap(PGConnection.class).getCopyAPI();
        try (Statement statement = connection.createStatement()) {
            switch (state) {
                case "idle" -> {
                    say("ready");
                    INPUT.readLine();
                    statement.execute("SELECT 1");
                }
                case "query" -> {
                    say("ready");
                    statement.execute("SELECT pg_sleep(60)");
                }
                case "copy-in" -> {
                    statement.execute("CREATE TEMP TABLE t (x text)");
                    CopyIn into = copies.copyIn("COPY t FROM STDIN");
                    byte[] rows = "x\n".repeat(10_000).getBytes(StandardCharsets.UTF_8);
                    say("ready");
                    while (!INPUT.ready()) {
                        into.writeToCopy(rows, 0, rows.length);
                        into.flushCopy();
                        Thread.sleep(10);
                    }
                    into.endCopy();
                }
                default -> {
                    CopyOut out = copies.copyOut(SLOW);
                    out.readFromCopy();
                    say("ready");
                    while (out.readFromCopy() != null) {
                        // on to the next
                    }
                }
            }
        }
    }
}
