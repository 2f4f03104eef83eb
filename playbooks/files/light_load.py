# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends a bounded number of GET requests and compares their times with targets.

Argument: a JSON object with url, host, requests, workers, p50_ms, p95_ms, p99_ms, success_percent.
Prints one line; exit code 1 where a target is missed.
"""

import concurrent.futures
import json
import ssl
import sys
import time
import urllib.error
import urllib.request


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args, **kwargs):
        return None


def percentile(ordered, share):
    """Nearest-rank percentile of a sorted list."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def main():
    profile = json.loads(sys.argv[1])
    # The name in the certificate is the site's, not this address's.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect()
    )

    def one(_unused):
        request = urllib.request.Request(profile["url"], headers={"Host": profile["host"]})
        started = time.perf_counter()
        try:
            with opener.open(request, timeout=30) as response:
                response.read()
                good = True
        except urllib.error.HTTPError as error:
            good = 300 <= error.code < 400
        except OSError:
            good = False
        return good, (time.perf_counter() - started) * 1000

    with concurrent.futures.ThreadPoolExecutor(profile["workers"]) as pool:
        results = list(pool.map(one, range(profile["requests"])))
    times = sorted(milliseconds for _unused, milliseconds in results)
    success = 100 * sum(good for good, _unused in results) / len(results)
    missed = [] if success >= profile["success_percent"] else [f"success {success:.1f} %"]
    figures = []
    for share in (50, 95, 99):
        value, target = percentile(times, share), profile[f"p{share}_ms"]
        figures.append(f"p{share} {value:.0f} ms (target {target})")
        if value >= target:
            missed.append(f"p{share} {value:.0f} ms")
    print(
        f"{len(results)} requests, {profile['workers']} at once: success {success:.1f} % "
        f"(target {profile['success_percent']}), {', '.join(figures)}"
    )
    if missed:
        print(f"Targets missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
