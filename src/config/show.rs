//! The validated settings as TOML again, for `estafette config show`. Secrets are hidden.

use std::fmt::Write;

use super::{Config, MetricsAccess, Networks};

impl Config {
    /// Every key outside connectors with the value in force, and one line a connector.
    pub fn show(&self) -> String {
        let server = &self.server;
        let days = |d: std::time::Duration| d.as_secs() / 86_400;
        let list =
            |networks: &Networks| networks.texts().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ");
        let metrics = match server.metrics {
            MetricsAccess::AdminKey => "# metrics: admin key only",
            MetricsAccess::ScrapeKey(_) => "metrics_key = \"(hidden)\"",
            MetricsAccess::Open => "metrics_open = true",
        };
        let (backup_folder, run_details, events) = self.kept();
        let mut out = format!(
            "[server]\napi_listen = \"{}\"\npublic_listen = \"{}\"\ninbox_listen = \"{}\"\npublic_url = \"{}\"\n{metrics}\ntrusted_proxies = [{}]\n\
             request_seconds_max = {}\nupload_bytes_max = {}\ndrain_seconds_max = {}\nschedule_safety_minutes = {}\n\n\
             [data]\nrejected_rows_days = {}\ntracking_days = {}\none_shot_max_bytes = {}\n\
             one_shot_retention_days = {}\n{backup_folder}\n[retention]\n{run_details}{events}\n\
             [tracking]\naggregate_only = {}\nmachine_ranges = [{}]\nprefetch_ranges = [{}]\n\n[bounces]\nsoft_max = {}\nsoft_days = {}\nsoft_within_days = {}\n\n\
             [lanes]\nlane_threads = {}\n",
            server.api_listen,
            server.public_listen,
            server.inbox_listen,
            server.public_url,
            list(&server.trusted_proxies),
            server.request_time_max.as_secs(),
            server.upload_bytes_max,
            server.drain_time_max.as_secs(),
            server.publish_grace.as_secs() / 60,
            days(self.data.rejected_rows_kept),
            days(self.data.tracking_kept),
            self.data.one_shot_bytes_max,
            days(self.data.one_shot_kept),
            self.tracking.aggregate_only,
            list(&self.tracking.machine_ranges),
            list(&self.tracking.prefetch_ranges),
            self.soft_bounces.bounces,
            self.soft_bounces.days,
            self.soft_bounces.within_days,
            self.lane_threads,
        );
        let mail = [
            ("return_path_domain", &self.mail.return_path_domain),
            ("unsubscribe_mailbox", &self.mail.unsubscribe_mailbox),
        ];
        out.push_str("\n[mail]\n");
        for (key, value) in mail {
            match value {
                Some(value) => out.push_str(&format!("{key} = \"{value}\"\n")),
                None => out.push_str(&format!("# {key}: none\n")),
            }
        }
        for cap in &self.caps {
            let (channel, max, days) = (cap.channel, cap.max, cap.days);
            out.push_str(&format!("\n[[caps]]\nchannel = \"{channel}\"\nmax = {max}\nper = \"{days}d\"\n"));
        }
        for connector in &self.connectors {
            // writing to a String cannot fail
            write!(
                out,
                "\n[[connectors]]\nname = \"{}\"\nkind = \"{}\"\nconnections_max = {}\n",
                connector.name(),
                connector.kind(),
                connector.connections_max()
            )
            .unwrap_or_default();
        }
        out
    }

    /// Lines of keys that may be left out.
    fn kept(&self) -> (String, String, String) {
        let backup_folder = match &self.data.backup_folder {
            Some(folder) => format!("backup_folder = {:?}\n", folder.display().to_string()),
            None => "# backup_folder: none\n".to_owned(),
        };
        let run_details = match self.retention.run_details_kept {
            Some(kept) => format!("run_details_days = {}\n", kept.as_secs() / 86_400),
            None => "# run_details_days: none, they are kept for ever\n".to_owned(),
        };
        let events = match self.retention.events_kept {
            Some(kept) => format!("event_days = {}\n", kept.as_secs() / 86_400),
            None => "# event_days: none, that a contact did something is kept for ever\n".to_owned(),
        };
        (backup_folder, run_details, events)
    }
}
