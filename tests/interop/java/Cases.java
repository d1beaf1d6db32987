// JDBC against the pooler. Called by `pool_programs.py` as `java -cp postgresql.jar Cases.java URL USER PASSWORD`, without a
// build; prints `ok NAME` or `FAILED NAME: why` a line.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

public class Cases {
    interface Work {
        void run() throws Exception;
    }

    private static final List<String> names = new ArrayList<>();
    private static final List<Work> works = new ArrayList<>();
    private static String[] target;

    private static void add(String name, Work work) {
        names.add(name);
        works.add(work);
    }

    private static Connection connect(String... options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", target[1]);
        properties.setProperty("password", target[2]);
        properties.setProperty("connectTimeout", "20");
        properties.setProperty("socketTimeout", "60");
        for (int n = 0; n + 1 < options.length; n += 2) {
            properties.setProperty(options[n], options[n + 1]);
        }
        return DriverManager.getConnection(target[0], properties);
    }

    private static void same(Object got, Object wanted) {
        if (!wanted.equals(got)) {
            throw new IllegalStateException("got " + got + ", wanted " + wanted);
        }
    }

    private static long number(Connection c, String sql, Object... values) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(sql)) {
            for (int n = 0; n < values.length; n++) {
                s.setObject(n + 1, values[n]);
            }
            try (ResultSet rows = s.executeQuery()) {
                rows.next();
                return rows.getLong(1);
            }
        }
    }

    private static void atOnce(int clients, Callable<Void> work) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(clients);
        try {
            List<Callable<Void>> all = new ArrayList<>();
            for (int n = 0; n < clients; n++) {
                all.add(work);
            }
            for (Future<Void> one : threads.invokeAll(all)) {
                one.get();
            }
        } finally {
            threads.shutdownNow();
        }
    }

    public static void main(String[] arguments) {
        target = arguments;
        add("statements that the driver prepares at the server after five uses", () -> atOnce(20, () -> {
            try (Connection c = connect()) {
                for (int n = 0; n < 40; n++) {
                    int shape = n % 3;
                    try (PreparedStatement s = c.prepareStatement("select ?::int + " + shape)) {
                        s.setInt(1, n);
                        try (ResultSet rows = s.executeQuery()) {
                            rows.next();
                            same(rows.getInt(1), n + shape);
                        }
                    }
                }
            }
            return null;
        }));
        add("every mode of queries that it has", () -> {
            for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
                try (Connection c = connect("preferQueryMode", mode, "prepareThreshold", "1")) {
                    for (int n = 0; n < 10; n++) {
                        same(number(c, "select ?::int * 2", n), 2L * n);
                        try (Statement s = c.createStatement(); ResultSet rows = s.executeQuery("select 1")) {
                            rows.next();
                            same(rows.getInt(1), 1);
                        }
                    }
                }
            }
        });
        add("transactions, savepoints and an error in between", () -> {
            try (Connection c = connect("prepareThreshold", "1")) {
                c.createStatement().execute("drop table if exists java_account");
                c.createStatement().execute("create table java_account (id int primary key, n int not null)");
                c.setAutoCommit(false);
                for (int n = 0; n < 20; n++) {
                    number(c, "insert into java_account values (?, ?) returning id", n, n);
                    java.sql.Savepoint before = c.setSavepoint();
                    try {
                        number(c, "insert into java_account values (?, ?) returning id", n, n);
                        throw new IllegalStateException("a key was taken twice");
                    } catch (SQLException error) {
                        same(error.getSQLState(), "23505");
                        c.rollback(before);
                    }
                    c.commit();
                }
                number(c, "insert into java_account values (100, 100) returning id");
                c.rollback();
                same(number(c, "select count(*) from java_account"), 20L);
                c.commit();
            }
        });
        add("batches, rewritten and not", () -> {
            for (String rewrite : new String[] {"false", "true"}) {
                try (Connection c = connect("reWriteBatchedInserts", rewrite)) {
                    c.createStatement().execute("drop table if exists java_batch");
                    c.createStatement().execute("create table java_batch (n int, t text)");
                    try (PreparedStatement s = c.prepareStatement("insert into java_batch values (?, ?)")) {
                        for (int round = 0; round < 3; round++) {
                            for (int n = 0; n < 700; n++) {
                                s.setInt(1, n);
                                s.setString(2, "text " + n);
                                s.addBatch();
                            }
                            s.executeBatch();
                        }
                    }
                    same(number(c, "select count(*) from java_batch"), 2100L);
                }
            }
        });
        add("a result that is fetched in pieces, by a portal", () -> {
            try (Connection c = connect()) {
                c.setAutoCommit(false);
                try (Statement s = c.createStatement()) {
                    s.setFetchSize(50);
                    long sum = 0;
                    try (ResultSet rows = s.executeQuery("select n from generate_series(1, 3000) n")) {
                        while (rows.next()) {
                            sum += rows.getInt(1);
                        }
                    }
                    same(sum, 3000L * 3001 / 2);
                }
                c.commit();
            }
        });
        add("COPY both ways", () -> {
            try (Connection c = connect()) {
                c.createStatement().execute("drop table if exists java_copy");
                c.createStatement().execute("create table java_copy (n int, t text)");
                CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
                StringBuilder text = new StringBuilder();
                for (int n = 0; n < 10000; n++) {
                    text.append(n).append("\trow ").append(n).append('\n');
                }
                same(copy.copyIn("copy java_copy from stdin", new StringReader(text.toString())), 10000L);
                StringWriter out = new StringWriter();
                copy.copyOut("copy (select * from java_copy order by n) to stdout", out);
                same(out.toString(), text.toString());
            }
        });
        add("a query that takes too long is cancelled, and the connection goes on", () -> {
            try (Connection c = connect()) {
                try (Statement s = c.createStatement()) {
                    s.setQueryTimeout(1);
                    try {
                        s.execute("select pg_sleep(30)");
                        throw new IllegalStateException("it was not cancelled");
                    } catch (SQLException error) {
                        same(error.getSQLState(), "57014");
                    }
                }
                same(number(c, "select 7"), 7L);
            }
        });
        add("DDL between executions, with the driver's own second try", () -> {
            try (Connection a = connect("prepareThreshold", "1", "autosave", "conservative"); Connection b = connect()) {
                b.createStatement().execute("drop table if exists java_changing");
                b.createStatement().execute("create table java_changing (one int)");
                b.createStatement().execute("insert into java_changing values (1)");
                for (int n = 0; n < 3; n++) {
                    same(number(a, "select * from java_changing"), 1L);
                }
                b.createStatement().execute("alter table java_changing alter one type bigint");
                b.createStatement().execute("alter table java_changing add two int");
                for (int n = 0; n < 3; n++) {
                    same(number(a, "select * from java_changing"), 1L);
                }
            }
        });
        add("metadata of tables, columns, types", () -> {
            try (Connection c = connect()) {
                c.createStatement().execute("drop table if exists java_meta");
                c.createStatement().execute("create table java_meta (n int primary key, t text[], j jsonb)");
                try (ResultSet columns = c.getMetaData().getColumns(null, "public", "java_meta", null)) {
                    int count = 0;
                    while (columns.next()) {
                        count++;
                    }
                    same(count, 3);
                }
                try (PreparedStatement s = c.prepareStatement("select * from java_meta where n = ?")) {
                    same(s.getMetaData().getColumnCount(), 3);
                    same(s.getParameterMetaData().getParameterCount(), 1);
                }
            }
        });
        for (int n = 0; n < names.size(); n++) {
            String verdict = "ok " + names.get(n);
            try {
                works.get(n).run();
            } catch (Throwable error) {
                Throwable cause = error.getCause() == null ? error : error.getCause();
                verdict = "FAILED " + names.get(n) + ": " + String.valueOf(cause).replace('\n', ' ');
            }
            System.out.println(verdict);
        }
        System.exit(0);
    }
}
