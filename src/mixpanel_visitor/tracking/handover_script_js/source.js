// Hands the visitor IDs that the SDKs in the browser hold to the server, as long as the page is there. The server's
// answers stand in tracking/handover_endpoint.py. Browsers from before 2019 cannot read this.
//
// What is served are the other files here, which `scripts/handover-script` makes of this one: MIXPANEL and SPID are
// true or false in them. handover_script.py puts the arguments in place of `...CONFIG`.
//
// src: the address of this script, for where the browser does not tell; what posts take is the same without ".js"
// seen: the server's cookie with what it has heard (`seen_value` in core/response_cookies.py), or "0" after an opt-out
// device, choice: mixpanel-browser's names for its cookie (or storage entry) and for the opt-out
// session: the name under which Schibsted account's SDK v2 stores its session
((src, seen, device, choice, session) => {
  const url = ((document.currentScript || 0).src || src).replace(/\.js([?#].*)?$/, '');
  let cookies; // document.cookie at the last look
  let sent = ''; // what was news when it was posted last; with the cookies of then, if the server did not take it
  let retries = 9; // without an event
  let first; // what mixpanel-browser had stored first
  let visitor; // whom SPiD's SDK has named
  let listening = '';

  // What a step needs may be missing or forbidden: then it throws, and the others go on.
  const attempt = (step) => {
    try {
      return step();
    } catch {}
  };

  const cookie = (name) => (('; ' + cookies).split('; ' + name + '=')[1] || '').split(';')[0];

  // The event comes without the signature, and in v1 before the session is kept: so look a moment later.
  const listen = (events, name) => {
    if (!listening.includes(name)) {
      events.subscribe(name, (found) => {
        visitor = found;
        setTimeout(look);
      });
      listening += name;
    }
  };

  const look = async (event) => {
    const body = {};
    let news = ''; // what of the body the server has not heard

    cookies = attempt(() => document.cookie);
    const heard = '~' + cookie(seen) + '~';
    const tell = (claim) => heard.includes(claim) || (news += claim);

    // Opted out, by the SDK and by what the server knows.
    const chosen = MIXPANEL && attempt(() => localStorage[choice]);
    const out = chosen == '0';
    const known = heard == '~0~' || (MIXPANEL && cookie(choice) == '0');
    if (chosen && out != known) {
      body.opted_out = out;
      news = chosen;
    } else if (!known) {
      if (MIXPANEL) {
        // While mixpanel-browser has its cookie, the server reads that itself; but a storage that changes is the
        // one that it has, and the cookie the server's seed for the next page.
        const stored = attempt(() => JSON.parse(localStorage[device]).$device_id);
        const id =
          (stored != (first = first || stored) || !cookie(device)) &&
          (stored || attempt(() => mixpanel.get_property('$device_id')));
        if (id) tell('~' + (body.device_id = id) + '~');
      }
      if (SPID) {
        attempt(() => listen(VGS.Event, 'auth.visitor'));
        attempt(() => listen(SPiD.event, 'SPiD.visitor'));
        // A kept session says what a late listener missed, and has the signature. Where the event named somebody
        // else it is an older one.
        let kept;
        [
          () => VGS.getSession(),
          () => JSON.parse(localStorage[session]),
          () => JSON.parse(unescape(cookie(session))),
        ].forEach((read) => attempt(() => {
          const found = read();
          if (found.visitor.uid == (visitor || found.visitor).uid && !(new Date(found._expires) < new Date()))
            kept = kept || found;
        }));
        kept = kept || {visitor};
        if (kept.visitor) {
          body.uid = kept.visitor.uid;
          // The server takes two KiB in all.
          const sig = kept.sig && kept.sig.length < 1800 ? kept.sig : '';
          body.sig = sig || undefined;
          tell('~' + body.uid + '~' + sig.slice(0, 8) + '~');
        }
      }
    }

    // What was not taken is tried again by an event (of the long names below, as a click is too often, and the load
    // is too early), and when the cookies have changed: one may be the consent.
    const untaken = news + ';' + cookies;
    if (
      news && news != sent &&
      ((event && event.type[5]) || sent.indexOf(news) || (untaken != sent && retries-- > 0))
    ) {
      sent = news;
      const blob = new Blob([JSON.stringify(body)], {type: 'application/json'});
      let status;
      try {
        // A beacon's answer cannot be seen: it is for browsers that stop a fetch when the page is left.
        status = (await ('keepalive' in Request.prototype
          ? fetch(url, {method: 'POST', keepalive: true, body: blob})
          : navigator.sendBeacon(url, blob))).status;
      } catch {}
      // 204: taken. 4xx: refused, and it would be so again.
      if (sent == news && !/^4|204/.test(status)) sent = untaken;
    }
  };

  look();
  setInterval(look, 1000);
  // A log-in or a log-out mostly begins with a click; what the page does with it comes first. The last one is the
  // page's own: it may say that there is consent now.
  for (const name of ['click', 'load', 'pagehide', 'visibilitychange', 'mixpanel-visitor'])
    addEventListener(name, look);
  // A script that has just run may be an SDK.
  document.addEventListener('load', (event) => event.target.nodeName == 'SCRIPT' && look(), true);
})(...CONFIG);
