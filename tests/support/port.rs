use std::net::TcpListener;

/// A TCP port of the loopback interface on which nothing listens at this moment. Below those that the system gives to
/// connections: a client that tries one of these again and again while nobody listens gets connected to itself one day.
pub fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
