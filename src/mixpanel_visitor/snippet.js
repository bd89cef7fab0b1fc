// Hands the visitor ID that the SDKs in the browser hold to the server. snippet.py serves it with its arguments
// in place of CONFIG, without comments and white space. ES5, so that old browsers can read it.
//
// src: the address of this script, for where the browser does not tell; what posts take is the same without ".js"
// seen: the server's cookie with the IDs that it knows, joined by "~", or "0" after an opt-out
// device, choice: mixpanel-browser's names for its cookie (or storage entry) and for the opt-out, or null
// spid: the name under which Schibsted account's SDK v2 stores its session, or null: no SPiD here
(function (src, seen, device, choice, spid) {
  var url = ((document.currentScript || {}).src || src).replace(/\.js([?#].*)?$/, ''),
    done = '~', visitor, told, refused;

  function cookie(name) {
    return (('; ' + document.cookie).split('; ' + name + '=')[1] || '').split(';')[0];
  }

  function post(body) {
    body = JSON.stringify(body);
    try {
      if (navigator.sendBeacon(url, new Blob([body], {type: 'application/json'}))) return;
    } catch (e) {}
    fetch(url, {
      method: 'POST', keepalive: true, credentials: 'same-origin',
      headers: {'Content-Type': 'application/json'}, body: body
    }).catch(String); // which does nothing: the next page tries again
  }

  function tell(id, body) {
    if (id && !refused && (done + cookie(seen) + '~').indexOf('~' + id + '~') < 0) {
      done += id + '~';
      post(body);
    }
  }

  // The event comes without the signature, and in v1 before the session is kept: so look a moment later.
  function listen(events, name) {
    if (spid && done.indexOf(name) < 0) {
      events.subscribe(name, function (found) {
        visitor = found;
        setTimeout(look);
      });
      done = name + done;
    }
  }

  // A kept session says what a late listener missed; where the event named somebody else it is an older one.
  function offer(kept) {
    var uid = kept.visitor.uid, sig = kept.sig;
    if (spid && uid == (visitor || kept.visitor).uid && !(new Date(kept._expires) < new Date))
      tell(uid, sig && sig.length < 1900 ? {sig: sig} : {uid: uid});
  }

  // What a step needs may be missing or forbidden: then it throws, and the others go on.
  function look() {
    [
      function () {
        var known = refused = cookie(choice) == '0' || cookie(seen) == '0',
          now = localStorage[choice], no = now == '0';
        refused = known || no;
        if (now && now != told && no != known) {
          told = now;
          post({opted_out: no});
        }
      },
      function () {
        var id;
        // While the SDK has its cookie, the server reads that itself.
        if (device && !cookie(device)) {
          try { id = JSON.parse(localStorage[device]).$device_id; } catch (e) {}
          id = id || mixpanel.get_property('$device_id');
          tell(id, {device_id: id});
        }
      },
      function () { listen(VGS.Event, 'auth.visitor'); offer(VGS.getSession()); },
      function () { listen(SPiD.event, 'SPiD.visitor'); },
      function () { offer(JSON.parse(localStorage[spid] || unescape(cookie(spid)))); },
      function () { offer({visitor: visitor}); }
    ].forEach(function (step) {
      try { step(); } catch (e) {}
    });
  }

  function again(ms) {
    look();
    if (ms < 9999) setTimeout(again, ms, ms * 2);
  }

  again(50);
  ['load', 'pagehide', 'visibilitychange'].forEach(function (name) { addEventListener(name, look, true); });
  // A script that has just run may be an SDK, and its answer may be here before the next timer.
  document.addEventListener('load', function (e) {
    if (e.target.nodeName == 'SCRIPT') look();
  }, true);
})(CONFIG);
