//! What recipients see: unsubscribe pages in a few languages, the page for any bad token, the pixel. Pure.

use actix_web::HttpResponse;
use actix_web::http::header;

/// A transparent GIF of one pixel.
pub(super) const PIXEL: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

struct Words {
    language: &'static str,
    ask: &'static str,
    button: &'static str,
    everything: &'static str,
    done: &'static str,
    again: &'static str,
}

const WORDS: &[Words] = &[
    Words {
        language: "en",
        ask: "Do you want to stop receiving these messages?",
        button: "Unsubscribe",
        everything: "from all messages of this sender",
        done: "You are unsubscribed.",
        again: "This did not work. Please try again in a minute.",
    },
    Words {
        language: "fr",
        ask: "Souhaitez-vous ne plus recevoir ces messages ?",
        button: "Se désabonner",
        everything: "de tous les messages de cet expéditeur",
        done: "Vous êtes désabonné.",
        again: "Cela n’a pas fonctionné. Veuillez réessayer dans une minute.",
    },
    Words {
        language: "de",
        ask: "Möchten Sie diese Nachrichten nicht mehr erhalten?",
        button: "Abbestellen",
        everything: "alle Nachrichten dieses Absenders",
        done: "Sie sind abgemeldet.",
        again: "Das hat nicht geklappt. Bitte versuchen Sie es in einer Minute noch einmal.",
    },
    Words {
        language: "es",
        ask: "¿Desea dejar de recibir estos mensajes?",
        button: "Darse de baja",
        everything: "de todos los mensajes de este remitente",
        done: "Se ha dado de baja.",
        again: "No ha funcionado. Inténtelo de nuevo en un minuto.",
    },
    Words {
        language: "it",
        ask: "Non vuole più ricevere questi messaggi?",
        button: "Annulla l’iscrizione",
        everything: "da tutti i messaggi di questo mittente",
        done: "La sua iscrizione è annullata.",
        again: "Non ha funzionato. Riprovi tra un minuto.",
    },
    Words {
        language: "nl",
        ask: "Wilt u deze berichten niet meer ontvangen?",
        button: "Afmelden",
        everything: "voor alle berichten van deze afzender",
        done: "U bent afgemeld.",
        again: "Dat is niet gelukt. Probeer het over een minuut opnieuw.",
    },
    Words {
        language: "pt",
        ask: "Deseja deixar de receber estas mensagens?",
        button: "Cancelar a subscrição",
        everything: "de todas as mensagens deste remetente",
        done: "A sua subscrição foi cancelada.",
        again: "Não funcionou. Tente novamente dentro de um minuto.",
    },
];

fn words(language: &str) -> &'static Words {
    WORDS.iter().find(|w| w.language.eq_ignore_ascii_case(language)).unwrap_or(&WORDS[0])
}

const STYLE: &str = "body{font:18px/1.5 system-ui,sans-serif;max-width:30rem;margin:15vh auto;padding:0 1rem;color:#222;\
    text-align:center}button{font:inherit;padding:.5rem 1.5rem;border:0;border-radius:4px;background:#222;color:#fff;cursor:pointer}";

fn page(status: actix_web::http::StatusCode, language: &str, title: &str, body: &str) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
        ))
        .body(format!(
            "<!doctype html><html lang={language}><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>{title}</title><style>{STYLE}</style>{body}</html>"
        ))
}

/// The question with its button; showing it changes nothing.
pub(super) fn ask(language: &str) -> HttpResponse {
    let w = words(language);
    let body = format!(
        "<form method=post><p>{}</p><input type=hidden name=via value=page>\
         <p><label><input type=checkbox name=everything value=yes> {}</label></p><button>{}</button></form>",
        w.ask, w.everything, w.button
    );
    page(actix_web::http::StatusCode::OK, w.language, w.button, &body)
}

pub(super) fn done(language: &str) -> HttpResponse {
    let w = words(language);
    page(actix_web::http::StatusCode::OK, w.language, w.button, &format!("<p>{}</p>", w.done))
}

pub(super) fn try_again(language: &str) -> HttpResponse {
    let w = words(language);
    page(actix_web::http::StatusCode::SERVICE_UNAVAILABLE, w.language, w.button, &format!("<p>{}</p>", w.again))
}

/// The same for every bad token, whatever is wrong with it.
pub(super) fn not_found() -> HttpResponse {
    let body = "<p>This link is not valid, or no longer.</p>";
    page(actix_web::http::StatusCode::NOT_FOUND, "en", "Not found", body)
}

/// A mail as a page: it may show images and styles, and nothing runs.
pub(super) fn mail(html: String) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; img-src http: https: data:; style-src 'unsafe-inline' https:; font-src https: data:; \
             frame-ancestors 'none'; sandbox allow-popups allow-popups-to-escape-sandbox",
        ))
        .body(html)
}
