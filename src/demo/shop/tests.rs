//! A replica, asked over real sockets while its faults change.

use super::*;
use crate::demo::answers::REPLICA_HEADER;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;

const SOON: Duration = Duration::from_secs(10);

/// Sends one request on a connection of its own; gives the status, the replica and the body.
async fn ask(addr: SocketAddr, method: &str, path: &str, body: &str) -> Result<(u16, String, String), String> {
    let exchange = async {
        let stream = TcpStream::connect(addr).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", addr.to_string());
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let replica = response.headers().get(REPLICA_HEADER).map(|v| v.to_str().unwrap().to_owned());
        let body = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok((status, replica.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap()))
    };
    tokio::time::timeout(SOON, exchange).await.unwrap_or(Err("too late".to_owned()))
}

async fn get(shop: &ShopHandle, path: &str) -> Result<(u16, String, String), String> {
    ask(shop.addr(), "GET", path, "").await
}

#[tokio::test]
async fn the_shop_sells() {
    let shop = Shop::start(2, 1).await.unwrap();
    let handle = shop.handle();
    let (status, replica, body) = get(&handle, "/product/3").await.unwrap();
    assert_eq!((status, replica.as_str()), (200, "2"));
    assert_eq!(body, "{\"id\":3,\"name\":\"signal lamp\",\"price_cents\":6200}\n");
    let (status, _, body) = get(&handle, "/").await.unwrap();
    assert!(status == 200 && body.contains("heaving line"), "{body}");
    let bought = ask(handle.addr(), "POST", "/cart", r#"{"product":3,"quantity":2}"#).await.unwrap();
    assert!(bought.0 == 201 && bought.2.contains("12400"), "{bought:?}");
    assert_eq!(get(&handle, "/slow").await.unwrap().0, 200);
    assert_eq!(get(&handle, "/healthz").await.unwrap().0, 200);
    for (method, path, body, status) in [
        ("GET", "/product/13", String::new(), 404),
        ("GET", "/nowhere", String::new(), 404),
        ("DELETE", "/cart", String::new(), 405),
        ("POST", "/cart", "{".to_owned(), 400),
        ("POST", "/cart", " ".repeat(17 * 1024), 413),
    ] {
        assert_eq!(ask(handle.addr(), method, path, &body).await.unwrap().0, status, "{method} {path}");
    }
    assert_eq!(handle.served(), 10);
}

#[tokio::test]
async fn down_refuses_and_up_is_the_same_address() {
    let shop = Shop::start(1, 1).await.unwrap();
    let handle = shop.handle();
    for _ in 0..3 {
        let open = TcpStream::connect(handle.addr()).await.unwrap();
        handle.set(Faults { down: true, ..Faults::default() }).unwrap();
        assert!(handle.settled().await);
        let error = TcpStream::connect(handle.addr()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        // What was open has ended, in order or by a reset.
        let ended = tokio::time::timeout(SOON, async {
            loop {
                open.readable().await.unwrap();
                match open.try_read(&mut [0; 1]) {
                    Ok(0) => return true,
                    Ok(_) => return false,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return true,
                }
            }
        });
        assert!(ended.await.unwrap());
        handle.set(Faults::default()).unwrap();
        assert!(handle.settled().await);
        assert_eq!(get(&handle, "/healthz").await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn a_frozen_replica_accepts_and_answers_when_it_is_thawed() {
    let shop = Shop::start(1, 1).await.unwrap();
    let handle = shop.handle();
    handle.set(Faults { freeze: true, ..Faults::default() }).unwrap();
    let asking = tokio::spawn({
        let handle = handle.clone();
        async move { get(&handle, "/healthz").await }
    });
    let early = tokio::time::timeout(Duration::from_millis(50), get(&handle, "/")).await;
    assert!(early.is_err() && !asking.is_finished());
    handle.set(Faults::default()).unwrap();
    assert_eq!(asking.await.unwrap().unwrap().0, 200);
}

#[tokio::test]
async fn faults_are_set_over_http_even_when_the_shop_is_down() {
    let shop = Shop::start(1, 1).await.unwrap();
    let handle = shop.handle();
    let control = handle.control();
    let set = ask(control, "POST", "/faults", r#"{"down":true,"error_rate":1}"#).await.unwrap();
    assert_eq!((set.0, handle.faults().down), (200, true));
    assert!(get(&handle, "/").await.is_err());
    let set = ask(control, "POST", "/faults", r#"{"error_rate":1,"latency_ms":1}"#).await.unwrap();
    assert_eq!(set.2, "{\"latency_ms\":1,\"error_rate\":1.0,\"down\":false,\"freeze\":false}\n");
    assert_eq!(get(&handle, "/").await.unwrap().0, 500);
    assert_eq!(get(&handle, "/healthz").await.unwrap().0, 200);
    for (body, says) in [
        (r#"{"error_rate":2}"#, "from 0 to 1"),
        (r#"{"latency_ms":60001}"#, "at most 60000"),
        (r#"{"dwon":true}"#, "unknown field"),
    ] {
        let refused = ask(control, "POST", "/faults", body).await.unwrap();
        assert!(refused.0 == 400 && refused.2.contains(says), "{refused:?}");
    }
    assert_eq!(handle.faults().latency_ms, 1);
    assert_eq!(ask(control, "GET", "/faults", "").await.unwrap().0, 200);
    assert_eq!(ask(control, "GET", "/", "").await.unwrap().0, 404);
    assert_eq!(ask(control, "POST", "/faults", "{}").await.unwrap().0, 200);
    assert_eq!(handle.faults(), Faults::default());
}
