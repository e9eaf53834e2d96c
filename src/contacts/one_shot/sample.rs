//! An example file for each channel, to begin from. Owns nothing; every one of them is taken in without a complaint.

use crate::ids::Channel;

/// A whole file; none for a channel that uploads are not sent over.
pub fn sample(channel: Channel) -> Option<&'static str> {
    match channel {
        Channel::Email => Some(
            "email,first_name,city,code\r\nann@example.com,Ann,Lyon,SPRING-0001\r\n\
             jorge@example.com,Jorge,\"Vigo, Galicia\",SPRING-0002\r\n",
        ),
        Channel::Sms | Channel::Whatsapp => Some(
            "phone,first_name,city,code\r\n+33612345678,Ann,Lyon,SPRING-0001\r\n\
             +34612345678,Jorge,\"Vigo, Galicia\",SPRING-0002\r\n",
        ),
        Channel::Push | Channel::WebPush | Channel::InApp => Some(
            "id,first_name,city,code\r\n9f2c7a10b4,Ann,Lyon,SPRING-0001\r\n\
             1c40d2ee87,Jorge,\"Vigo, Galicia\",SPRING-0002\r\n",
        ),
        Channel::Webhook => None,
    }
}
