//! tokio-postgres' side of the conversation, and of the ends. See ../../README.md.

use std::env;
use std::error::Error as _;
use std::time::Duration;

use futures_util::{future, pin_mut, stream, SinkExt, StreamExt, TryStreamExt};
use rustls::pki_types::{pem::PemObject, CertificateDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::sync::mpsc;
use tokio_postgres::config::SslNegotiation;
use tokio_postgres::{AsyncMessage, Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

const SLOW: &str = "COPY (SELECT repeat('x', 10000), pg_sleep(0.01) FROM generate_series(1, 100000)) TO STDOUT";
type Input = Lines<BufReader<Stdin>>;

fn say(fields: &[&str]) {
    let flat: Vec<String> = fields.iter().map(|field| field.replace('\n', " / ").replace('\t', " ")).collect();
    println!("{}", flat.join("\t"));
}

async fn hear(input: &mut Input) -> String {
    input.next_line().await.unwrap().unwrap_or_default()
}

/// What the connection's own task has to tell: notifications, and how it ended.
struct Told {
    notifications: mpsc::UnboundedReceiver<String>,
    end: mpsc::UnboundedReceiver<Option<Error>>,
}

fn tls() -> MakeRustlsConnect {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(env::var("PGSSLROOTCERT").unwrap()).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    if direct() {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    MakeRustlsConnect::new(config)
}

fn direct() -> bool {
    env::var("PGSSLNEGOTIATION").is_ok_and(|value| value == "direct")
}

async fn connect(input: &mut Input) -> (Client, Told) {
    say(&["loaded"]);
    let mut config = Config::new();
    config.host(env::var("PGHOST").unwrap()).port(env::var("PGPORT").unwrap().parse().unwrap());
    config.user(env::var("PGUSER").unwrap()).dbname(env::var("PGDATABASE").unwrap());
    config.password(hear(input).await).ssl_mode(tokio_postgres::config::SslMode::Require);
    if direct() {
        config.ssl_negotiation(SslNegotiation::Direct);
    }
    let (client, mut connection) = config.connect(tls()).await.unwrap();
    let (notify, notifications) = mpsc::unbounded_channel();
    let (ended, end) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        loop {
            match messages.next().await {
                Some(Ok(AsyncMessage::Notification(one))) => drop(notify.send(one.payload().to_owned())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return drop(ended.send(Some(error))),
                None => return drop(ended.send(None)),
            }
        }
    });
    (client, Told { notifications, end })
}

async fn count(client: &Client) -> String {
    client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0).to_string()
}

async fn converse(client: Client, mut told: Told) {
    let simple = client.simple_query("SELECT 'simple'").await.unwrap();
    let row = simple.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    say(&["simple", row.unwrap()]);
    let texts = "SELECT concat_ws('|', $1::int8, $2::text, $3::float8, $4::bool, $5::bytea, coalesce($6::text, 'NULL'))";
    let values: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
        &[&41_i64, &"it's Zoë\\;", &1.5_f64, &true, &&b"\0\xff"[..], &None::<String>];
    say(&["values", client.query_one(texts, values).await.unwrap().get(0)]);
    client.batch_execute("CREATE TABLE t (n int PRIMARY KEY, x text)").await.unwrap();
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.unwrap();
    for number in 1..=3 {
        client.execute(&insert, &[&number, &"x"]).await.unwrap();
    }
    say(&["prepared", &count(&client).await]);
    let client = fail(client).await;
    let one = client.prepare("INSERT INTO t VALUES ($1)").await.unwrap();
    let numbers: Vec<i32> = (100..120).collect();
    let values: Vec<[&(dyn tokio_postgres::types::ToSql + Sync); 1]> = numbers.iter().map(|number| [number as _]).collect();
    future::try_join_all(values.iter().map(|value| client.execute(&one, value))).await.unwrap();
    say(&["batch", &count(&client).await]);
    say(&["copy", &copy(&client).await.to_string()]);
    client.batch_execute("LISTEN heard").await.unwrap();
    client.batch_execute("NOTIFY heard, 'by me'").await.unwrap();
    say(&["notify", &told.notifications.recv().await.unwrap()]);
    say(&["cancel", &cancel(&client).await]);
    let rows = client.query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)", &[]).await.unwrap();
    say(&["big", &rows.iter().map(|row| row.get::<_, &str>(0).len()).sum::<usize>().to_string()]);
    drop(client);
    told.end.recv().await;
}

async fn fail(mut client: Client) -> Client {
    let transaction = client.transaction().await.unwrap();
    let mut state = String::new();
    for number in [4, 1] {
        if let Err(error) = transaction.execute("INSERT INTO t VALUES ($1)", &[&number]).await {
            state = error.code().unwrap().code().to_owned();
        }
    }
    transaction.rollback().await.unwrap();
    say(&["error", &state, &count(&client).await]);
    client
}

async fn copy(client: &Client) -> usize {
    let sink = client.copy_in::<_, bytes::Bytes>("COPY t (n) FROM STDIN").await.unwrap();
    pin_mut!(sink);
    let rows: String = (1000..2000).map(|number| format!("{number}\n")).collect();
    sink.send(bytes::Bytes::from(rows)).await.unwrap();
    sink.finish().await.unwrap();
    let out = client.copy_out("COPY (SELECT n FROM t WHERE n >= 1000 ORDER BY n) TO STDOUT").await.unwrap();
    out.try_fold(0, |size, chunk| future::ready(Ok(size + chunk.len()))).await.unwrap()
}

async fn cancel(client: &Client) -> String {
    let token = client.cancel_token();
    let asked = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(tls()).await.unwrap();
    };
    let (ran, ()) = future::join(client.batch_execute("SELECT pg_sleep(60)"), asked).await;
    ran.err().and_then(|error| error.code().map(|code| code.code().to_owned())).unwrap_or_default()
}

async fn end(client: &Client, told: &mut Told, input: &mut Input, state: &str) -> Option<Error> {
    match state {
        "idle" => {
            say(&["ready"]);
            tokio::select! {
                ended = told.end.recv() => return ended.flatten(),
                _ = hear(input) => {}
            }
            client.batch_execute("SELECT 1").await.err()
        }
        "query" => {
            say(&["ready"]);
            client.batch_execute("SELECT pg_sleep(60)").await.err()
        }
        "copy-in" => {
            client.batch_execute("CREATE TEMP TABLE t (x text)").await.unwrap();
            let sink = client.copy_in::<_, bytes::Bytes>("COPY t FROM STDIN").await.unwrap();
            pin_mut!(sink);
            say(&["ready"]);
            let enough = hear(input);
            pin_mut!(enough);
            while future::poll_immediate(&mut enough).await.is_none() {
                if let Err(error) = sink.send(bytes::Bytes::from("x\n".repeat(10_000))).await {
                    return Some(error);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            sink.finish().await.err()
        }
        _ => {
            let out = client.copy_out(SLOW).await.unwrap();
            pin_mut!(out);
            out.next().await;
            say(&["ready"]);
            while let Some(chunk) = out.next().await {
                if let Err(error) = chunk {
                    return Some(error);
                }
            }
            None
        }
    }
}

fn tell(error: Option<Error>) {
    let Some(error) = error else {
        return say(&["said", "", "", "nothing", "", ""]);
    };
    let text = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    let state = error.code().map_or("", |code| code.code());
    let server = error.as_db_error();
    let detail = server.and_then(|one| one.detail()).unwrap_or_default();
    let hint = server.and_then(|one| one.hint()).unwrap_or_default();
    say(&["said", "tokio_postgres::Error", state, &text, detail, hint]);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let state = env::args().nth(1).unwrap();
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let (client, mut told) = connect(&mut input).await;
    if state == "converse" {
        converse(client, told).await;
        return;
    }
    tell(end(&client, &mut told, &mut input, &state).await);
    std::process::exit(0);
}
