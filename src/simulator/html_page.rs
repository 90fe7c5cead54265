use axum::http::StatusCode;

/// Google's front end pages, as it answers what never reaches a service.
pub(super) fn html(status: u16, path: &str) -> Vec<u8> {
    let reason = match status {
        500.. => "Server Error",
        _ => StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error"),
    };
    let explanation = match status {
        404 => format!("The requested URL <code>{}</code> was not found on this server.", escaped(path)),
        405 => format!("The request method is inappropriate for the URL <code>{}</code>.", escaped(path)),
        411 => "POST requests require a <code>Content-length</code> header.".to_owned(),
        500.. => {
            "The server encountered a temporary error and could not complete your request.<p>Please try again in 30 \
                  seconds."
                .to_owned()
        }
        _ => "Your client has issued a malformed or illegal request.".to_owned(),
    };
    format!(
        "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <title>Error {status} ({reason})!!1</title>\n  \
         <p><b>{status}.</b> <ins>That’s an error.</ins>\n  <p>{explanation}  <ins>That’s all we know.</ins>\n"
    )
    .into_bytes()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
