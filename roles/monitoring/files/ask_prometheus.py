# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Prometheus server says of its targets, rules and alerts, as JSON: ADDRESS USER AWAY.

AWAY are hosts, with commas, whose targets are not counted.
"""

import base64
import json
import ssl
import sys
import urllib.request

base, user, away = sys.argv[1:]
context = ssl.create_default_context()
# The host asks itself, by an address that the certificate may not have.
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
)


def ask(path):
    request = urllib.request.Request(base + "/api/v1/" + path)
    if user:
        with open("/etc/prometheus/golive-password", encoding="utf-8") as file:
            login = base64.b64encode(f"{user}:{file.read()}".encode()).decode()
        request.add_header("Authorization", "Basic " + login)
    with opener.open(request, timeout=20) as answer:
        return json.load(answer)["data"]


try:
    targets = ask("targets?state=active")["activeTargets"]
    targets = [one for one in targets if one["labels"].get("instance") not in away.split(",")]
    rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    alerts = [
        one["labels"]["alertname"] for one in ask("alerts")["alerts"] if one["state"] == "firing"
    ]
    managers = ask("alertmanagers")["activeAlertmanagers"]
except OSError as error:
    sys.exit(f"{error}")
print(
    json.dumps(
        {
            "targets": len(targets),
            "up": sum(target["health"] == "up" for target in targets),
            "down": [
                f"{target['labels']['job']} of {target['labels'].get('instance', '')}:"
                f" {target['lastError']}"
                for target in targets
                if target["health"] != "up"
            ],
            "rules": len(rules),
            "alert_rules": sum(rule["type"] == "alerting" for rule in rules),
            "broken_rules": [
                f"{rule['name']}: {rule.get('lastError', '')}"
                for rule in rules
                if rule["health"] == "err"
            ],
            "firing": sorted(set(alerts) - {"AlertsWork"}),
            "alertmanagers": len(managers),
        }
    )
)
