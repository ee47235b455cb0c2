// pgx's side of the conversation, and of the ends. See ../README.md.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const slow = "COPY (SELECT repeat('x', 10000), pg_sleep(0.01) FROM generate_series(1, 100000)) TO STDOUT"

var (
	always = context.Background()
	input  = bufio.NewReader(os.Stdin)
	flat   = strings.NewReplacer("\n", " / ", "\t", " ")
)

func say(fields ...string) {
	for index, field := range fields {
		fields[index] = flat.Replace(field)
	}
	fmt.Println(strings.Join(fields, "\t"))
}

func hear() string {
	line, _ := input.ReadString('\n')
	return strings.TrimSuffix(line, "\n")
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func connect() *pgx.Conn {
	say("loaded")
	config, err := pgx.ParseConfig("") // the environment's variables, as libpq's
	must(err)
	config.Password = hear()
	heard := make(chan string, 1)
	config.OnNotification = func(_ *pgconn.PgConn, notification *pgconn.Notification) { heard <- notification.Payload }
	connection, err := pgx.ConnectConfig(always, config)
	must(err)
	notifications = heard
	return connection
}

var notifications chan string

func one(connection *pgx.Conn, text string, values ...any) string {
	var value string
	must(connection.QueryRow(always, text, values...).Scan(&value))
	return value
}

func count(connection *pgx.Conn) string {
	return one(connection, "SELECT count(*)::text FROM t")
}

func sqlstate(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Code
	}
	return ""
}

func converse(connection *pgx.Conn) {
	say("simple", one(connection, "SELECT 'simple'", pgx.QueryExecModeSimpleProtocol))
	texts := "SELECT concat_ws('|', $1::int8, $2::text, $3::float8, $4::bool, $5::bytea, coalesce($6::text, 'NULL'))"
	say("values", one(connection, texts, 41, "it's Zoë\\;", 1.5, true, []byte{0, 255}, nil))
	_, err := connection.Exec(always, "CREATE TABLE t (n int PRIMARY KEY, x text)")
	must(err)
	_, err = connection.Prepare(always, "insert", "INSERT INTO t VALUES ($1, $2)")
	must(err)
	for number := 1; number <= 3; number++ {
		_, err = connection.Exec(always, "insert", number, "x")
		must(err)
	}
	say("prepared", count(connection))
	say("error", fail(connection), count(connection))
	batch := &pgx.Batch{}
	for number := 100; number < 120; number++ {
		batch.Queue("INSERT INTO t VALUES ($1)", number)
	}
	must(connection.SendBatch(always, batch).Close())
	say("batch", count(connection))
	say("copy", copyBothWays(connection))
	_, err = connection.Exec(always, "LISTEN heard")
	must(err)
	_, err = connection.Exec(always, "NOTIFY heard, 'by me'")
	must(err)
	say("notify", <-notifications)
	say("cancel", cancel(connection))
	say("big", big(connection))
	must(connection.Close(always))
}

func fail(connection *pgx.Conn) string {
	transaction, err := connection.Begin(always)
	must(err)
	defer transaction.Rollback(always)
	for _, number := range []int{4, 1} {
		if _, err = transaction.Exec(always, "INSERT INTO t VALUES ($1)", number); err != nil {
			return sqlstate(err)
		}
	}
	return ""
}

func copyBothWays(connection *pgx.Conn) string {
	rows := make([][]any, 1000)
	for index := range rows {
		rows[index] = []any{1000 + index}
	}
	_, err := connection.CopyFrom(always, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows(rows))
	must(err)
	var out bytes.Buffer
	_, err = connection.PgConn().CopyTo(always, &out, "COPY (SELECT n FROM t WHERE n >= 1000 ORDER BY n) TO STDOUT")
	must(err)
	return fmt.Sprint(out.Len())
}

func cancel(connection *pgx.Conn) string {
	done := make(chan error)
	go func() {
		time.Sleep(300 * time.Millisecond)
		done <- connection.PgConn().CancelRequest(always)
	}()
	_, err := connection.Exec(always, "SELECT pg_sleep(60)")
	must(<-done)
	return sqlstate(err)
}

func big(connection *pgx.Conn) string {
	rows, err := connection.Query(always, "SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
	must(err)
	size := 0
	for rows.Next() {
		var text string
		must(rows.Scan(&text))
		size += len(text)
	}
	must(rows.Err())
	return fmt.Sprint(size)
}

// rows gives a few at a time, until somebody says that it is enough; out takes what comes.
type rows struct{ enough chan struct{} }

func (source *rows) Read(buffer []byte) (int, error) {
	if source.enough == nil {
		source.enough = make(chan struct{})
		go func() {
			hear()
			close(source.enough)
		}()
		say("ready")
	}
	select {
	case <-source.enough:
		return 0, io.EOF
	case <-time.After(10 * time.Millisecond):
	}
	return copy(buffer, strings.Repeat("x\n", 10000)), nil
}

type out struct{ begun bool }

func (sink *out) Write(data []byte) (int, error) {
	if !sink.begun {
		sink.begun = true
		say("ready")
	}
	return len(data), nil
}

var (
	_ io.Reader = &rows{}
	_ io.Writer = &out{}
)

func end(connection *pgx.Conn, state string) error {
	var err error
	switch state {
	case "idle":
		say("ready")
		hear()
		_, err = connection.Exec(always, "SELECT 1")
	case "query":
		say("ready")
		_, err = connection.Exec(always, "SELECT pg_sleep(60)")
	case "copy-in":
		_, err = connection.Exec(always, "CREATE TEMP TABLE t (x text)")
		must(err)
		_, err = connection.PgConn().CopyFrom(always, &rows{}, "COPY t FROM STDIN")
	case "copy-out":
		_, err = connection.PgConn().CopyTo(always, &out{}, slow)
	}
	return err
}

func told(err error) {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		say("said", "*pgconn.PgError", server.Code, err.Error(), server.Detail, server.Hint)
		return
	}
	say("said", fmt.Sprintf("%T", err), "", err.Error(), "", "")
}

func main() {
	connection := connect()
	if os.Args[1] == "converse" {
		converse(connection)
		return
	}
	told(end(connection, os.Args[1]))
}
